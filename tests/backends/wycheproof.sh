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

# run_keystore NAME URI FILE...: HKDF-SHA256 and HMAC-SHA256 by keys that the keystore holds; what it skips is told
run_keystore()
{
    name=$1 uri=$2
    shift 2
    "$runner" --keystore "$uri" "$@" >"$work/out" || { grep FAILED "$work/out" || true; fail "$name"; }
    echo "$name: $(tail -n 1 "$work/out")"
    sed -n 's/.*skipped: /  skipped: /p' "$work/out" | sort | uniq -c
}

run_keystores()
{
    run_keystore 'file keystore' "file:$work/made.keys" "$@"
    [ ! -e "$work/made.keys" ] || fail "the runner left a keystore"
    if [ -n "$softhsm" ]; then
        run_keystore 'token keystore' "$token" "$@"
    fi
}

softhsm=
for file in /usr/lib/softhsm/libsofthsm2.so /usr/lib64/softhsm/libsofthsm2.so \
    /usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so; do
    if [ -r "$file" ] && command -v softhsm2-util >/dev/null; then
        softhsm=$file
    fi
done
if [ -n "$softhsm" ]; then
    # SoftHSM leaks
    ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0
    SOFTHSM2_CONF=$work/softhsm2.conf
    export ASAN_OPTIONS SOFTHSM2_CONF
    mkdir "$work/tokens"
    printf 'directories.tokendir = %s/tokens\nobjectstore.backend = file\nlog.level = ERROR\n' "$work" >"$SOFTHSM2_CONF"
    softhsm2-util --init-token --free --label T --so-pin 'battery staple' --pin 'correct horse' >/dev/null
    (umask 077 && echo 'correct horse' >"$work/pin")
    token="pkcs11:token=T;object=w?module-path=$softhsm&pin-source=file:$work/pin"
else
    echo 'SoftHSM is not installed: no vectors over a token keystore'
fi

# A wrong answer by a key of a keystore.
cat >"$work/wrong_hkdf.json" <<'JSON'
{"algorithm": "HKDF-SHA-256", "testGroups": [{"type": "HkdfTest", "keySize": 176, "tests": [
 {"tcId": 1, "ikm": "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "salt": "000102030405060708090a0b0c",
  "info": "f0f1f2f3f4f5f6f7f8f9", "size": 4, "okm": "3cb25f26", "result": "valid"}]}]}
JSON
"$runner" --keystore "file:$work/made.keys" "$work/wrong_hkdf.json" >"$work/out" && fail "a wrong key counted as success"
grep -q '^0 passed, 1 failed, 0 skipped$' "$work/out" || fail "no sums for a wrong key"
sed 's/3cb25f26/3cb25f25/' "$work/wrong_hkdf.json" >"$work/right_hkdf.json"
run_keystores "$work/right_hkdf.json"

if [ -d "$shared" ]; then
    "$runner" "$shared"/*.json >"$work/out" || { grep FAILED "$work/out" || true; fail "shared vectors"; }
    tail -n 1 "$work/out"
    run_keystores "$shared/hkdf_sha256_test.json" "$shared/hmac_sha256_test.json"
fi

mkdir "$work/debian"
"$PYTHON3" "$top_srcdir/tests/backends/debian_vectors.py" "$work/debian" || exit $?
"$runner" "$work"/debian/*.json >"$work/out" || { grep FAILED "$work/out" || true; fail "vectors of Debian's package"; }
tail -n 1 "$work/out"
# Nothing here is outside of what the engine claims.
grep -q ' 0 failed, 0 skipped$' "$work/out" || fail "tests were skipped"
run_keystores "$work/debian/hkdf_sha256.json" "$work/debian/hmac_sha256.json"
