#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The vectors beside the source tree, when they are there, and what noise-vectors says of files that it cannot use.
set -eu
program=${top_builddir:?}/tests/noise-vectors
folder=$(mktemp -d "${TMPDIR:-/tmp}/noise-vectors.XXXXXX")
trap 'rm -rf "$folder"' EXIT

# must_fail NAME PATTERN FILE: exit status not 0, and the pattern in what is printed
must_fail() {
    if "$program" "$3" >"$folder/out" 2>&1; then
        echo "$1: taken for a success"
        exit 1
    fi
    grep -q "$2" "$folder/out" || { echo "$1: expected '$2' in:"; cat "$folder/out"; exit 1; }
}

must_fail 'missing file' 'nowhere.json' "$folder/nowhere.json"
: >"$folder/empty.json"
must_fail 'empty file' 'empty.json' "$folder/empty.json"
echo '{"vectors": []}' >"$folder/none.json"
must_fail 'no vectors' 'none.json: no "vectors"' "$folder/none.json"
echo '{"vectors": [{"protocol_name": "Noise_NN_448_AESGCM_SHA256", "messages": []}]}' >"$folder/skip.json"
must_fail 'nothing ran' '^0 passed, 0 failed, 1 skipped$' "$folder/skip.json"
grep -q '^SKIP: .*Noise_NN_448_AESGCM_SHA256' "$folder/out"
echo '{"vectors": [{"protocol_name": "Noise_NN_25519_AESGCM_SHA256", "messages": []}]}' >"$folder/short.json"
must_fail 'no messages' '^0 passed, 1 failed, 0 skipped$' "$folder/short.json"
if "$program" --backend nonesuch "$folder/short.json" >"$folder/out" 2>&1; then
    echo 'unknown backend: taken for a success'
    exit 1
fi
grep -q 'nonesuch' "$folder/out"

shared=${top_srcdir:?}/../shared/vectors/noise
if [ ! -d "$shared" ]; then
    echo "no $shared: its vectors were not run"
    exit 0
fi
rc=0
"$program" "$shared"/*.json >"$folder/out" || rc=$?
cat "$folder/out"
[ $rc -eq 0 ]
grep -q ' 0 failed, 0 skipped$' "$folder/out"
