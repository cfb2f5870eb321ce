#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# flynn/noise's vectors as Debian packages them; then the same with one digit changed, which must be told.
set -eu
folder=$(mktemp -d "${TMPDIR:-/tmp}/flynn-vectors.XXXXXX")
trap 'rm -rf "$folder"' EXIT

vectors=$({ dpkg -L golang-github-flynn-noise-dev 2>/dev/null || :; } | sed -n '/\/vectors\.txt$/p')
if [ ! -f "$vectors" ]; then
    echo 'no vectors.txt: apt-get install golang-github-flynn-noise-dev'
    exit 77
fi
if ! "${PYTHON3:?}" -c 'import cryptography' 2>/dev/null; then
    echo "$PYTHON3 has no module cryptography: apt-get install python3-cryptography"
    exit 77
fi
"$PYTHON3" "${top_srcdir:?}/tests/core/flynn_to_json.py" "$vectors" >"$folder/flynn.json"
rc=0
"${top_builddir:?}/tests/noise-vectors" "$folder/flynn.json" >"$folder/out" || rc=$?
cat "$folder/out"
[ $rc -eq 0 ]
grep -q ' 0 failed, 0 skipped$' "$folder/out"

# The first ciphertext of the first vector begins with the initiator's ephemeral, 358072...
sed '1s/"ciphertext": "35/"ciphertext": "36/' "$folder/flynn.json" >"$folder/changed.json"
if "$top_builddir/tests/noise-vectors" "$folder/changed.json" >"$folder/out"; then
    echo 'a changed ciphertext was taken'
    exit 1
fi
grep -q '^FAIL: .*vector 1 .*message 0: ciphertext differs$' "$folder/out"
grep -q ', 1 failed, 0 skipped$' "$folder/out"

# The hash is compared where it is given, though no transport message follows.
cat >"$folder/hash.py" <<'END'
import json, sys
vector = json.load(open(sys.argv[1]))["vectors"][0]
vector["messages"] = vector["messages"][:2]
vector["handshake_hash"] = "00" * 32
json.dump({"vectors": [vector]}, sys.stdout)
END
"$PYTHON3" "$folder/hash.py" "$folder/flynn.json" >"$folder/changed.json"
if "$top_builddir/tests/noise-vectors" "$folder/changed.json" >"$folder/out"; then
    echo 'a wrong handshake hash was taken'
    exit 1
fi
grep -q '^FAIL: .*handshake hash of the initiator differs$' "$folder/out"
