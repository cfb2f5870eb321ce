#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Known answers from outside: the shared Wycheproof files where they are, and those of python3-cryptography-vectors.
set -eu
runner=$top_builddir/tests/wycheproof
shared=$top_srcdir/../shared/vectors/wycheproof
work=$(mktemp -d "${TMPDIR:-/tmp}/chaveiro-wycheproof.XXXXXX")
trap 'rm -rf "$work"' EXIT

fail()
{
    echo "FAILED: $*"
    exit 1
}

# What the runner must not take for success.
echo '{"algorithm": "EDDSA", "testGroups": [{"tests": [{"tcId": 1}]}]}' >"$work/unknown.json"
echo '{"algorithm": "AES-GCM"' >"$work/broken.json"
cat >"$work/wrong.json" <<'JSON'
{"algorithm": "HMACSHA256", "testGroups": [{"type": "MacTest", "keySize": 32, "tagSize": 256, "tests": [
 {"tcId": 1, "key": "4a656665", "msg": "7768617420646f2079612077616e7420666f72206e6f7468696e673f", "result": "valid",
  "tag": "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3844"}]}]}
JSON
"$runner" "$work/unknown.json" >"$work/out" && fail "a run of no test counted as success"
grep -q '^0 passed, 0 failed, 1 skipped$' "$work/out" || fail "no sums for a file of an unknown algorithm"
"$runner" "$work/broken.json" 2>/dev/null >&2 && fail "an unreadable file counted as success"
"$runner" "$work/none.json" 2>/dev/null >&2 && fail "a missing file counted as success"
"$runner" "$work/wrong.json" >"$work/out" && fail "a wrong answer counted as success"
grep -q '^0 passed, 1 failed, 0 skipped$' "$work/out" || fail "no sums for a wrong answer"
"$runner" --backend none "$work/wrong.json" 2>/dev/null >&2 && fail "an unknown backend counted as success"
"$runner" 2>/dev/null >&2 && fail "no file counted as success"

if [ -d "$shared" ]; then
    "$runner" "$shared"/*.json >"$work/out" || { grep FAILED "$work/out" || true; fail "shared vectors"; }
    tail -n 1 "$work/out"
fi

mkdir "$work/debian"
"$PYTHON3" "$top_srcdir/tests/backends/debian_vectors.py" "$work/debian" || exit $?
"$runner" "$work"/debian/*.json >"$work/out" || { grep FAILED "$work/out" || true; fail "vectors of Debian's package"; }
tail -n 1 "$work/out"
# Nothing here is outside of what the engine claims.
grep -q ' 0 failed, 0 skipped$' "$work/out" || fail "tests were skipped"
