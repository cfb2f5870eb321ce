#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The backend "pkcs11" over real tokens, each made here and removed at the end: contract, known answers, whole sessions.
set -eu
work=$(mktemp -d "${TMPDIR:-/tmp}/chaveiro-pkcs11.XXXXXX")
trap 'rm -rf "$work"' EXIT
shared=$top_srcdir/../shared/vectors
vectors=$top_builddir/tests/noise-vectors
ran=0
softhsm_uri='' nss_uri=''

fail()
{
    echo "FAILED: $*"
    exit 1
}

# The modules leak, and are unloaded when a sanitizer could tell whose it was: pkcs11_lost looks for leaks of our own.
ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0
export ASAN_OPTIONS

# left_out WHAT: what is not here is said, and is a failure where nothing may be left out
left_out()
{
    echo "left out: $1"
    [ "${CHV_NO_SKIP-}" != 1 ] || fail "$1"
}

# find_module FILE...: the first that there is, or nothing
find_module()
{
    for file; do
        if [ -r "$file" ]; then
            echo "$file"
            return
        fi
    done
}

# run_token NAME URI LACKS VECTORS: LACKS is what wycheproof may skip besides what the engine does not claim, VECTORS
# the files of Noise vectors
run_token()
{
    echo "== $1"
    ran=$((ran + 1))
    "$top_builddir/tests/backends/contract" "$2" openssl >"$work/out" 2>&1 ||
        { cat "$work/out"; fail "$1: contract"; }
    grep -E '^ +tests|asserts' "$work/out"
    "$top_builddir/tests/backends/pkcs11_session" "$2" >"$work/out" 2>&1 || { cat "$work/out"; fail "$1: sessions"; }
    grep -E 'suites \.\.\.|asserts' "$work/out"
    mkdir -p "$work/debian"
    rc=0
    "$PYTHON3" "$top_srcdir/tests/backends/debian_vectors.py" "$work/debian" || rc=$?
    case $rc in
    0) run_wycheproof "$1" "$2" "$3" "$work"/debian/*.json ;;
    77) left_out "$1: vectors of python3-cryptography-vectors" ;;
    *) fail "$1: debian_vectors.py ended with $rc" ;;
    esac
    if [ -d "$shared" ]; then
        run_wycheproof "$1" "$2" "$3" "$shared"/wycheproof/*.json
        # shellcheck disable=SC2086 # a list of patterns
        (cd "$shared/noise" && "$vectors" --backend "$2" $4) >"$work/out" ||
            { grep FAIL "$work/out" || true; fail "$1: Noise vectors"; }
        echo "noise-vectors: $(tail -n 1 "$work/out")"
        sed -n 's/^SKIP: .*: vector [0-9]* (Noise_[^_]*_\([A-Za-z0-9_]*\)): \(.*\)/  skipped: \1: \2/p' "$work/out" |
            sort | uniq -c
    fi
}

run_wycheproof()
{
    name=$1 uri=$2 lacks=$3
    shift 3
    "$top_builddir/tests/wycheproof" --backend "$uri" "$@" >"$work/out" ||
        { grep FAILED "$work/out" || true; fail "$name: Wycheproof"; }
    echo "wycheproof: $(tail -n 1 "$work/out")"
    sed -n 's/.*skipped: \(the backend .*\)/  skipped: \1/p' "$work/out" | sort | uniq -c
    if [ -z "$lacks" ] && grep -q 'skipped: the backend' "$work/out"; then
        fail "$name: tests were skipped"
    fi
}

softhsm=$(find_module /usr/lib/softhsm/libsofthsm2.so /usr/lib64/softhsm/libsofthsm2.so \
    /usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so)
if [ -n "$softhsm" ] && command -v softhsm2-util >/dev/null; then
    SOFTHSM2_CONF=$work/softhsm2.conf
    export SOFTHSM2_CONF
    mkdir "$work/tokens"
    printf 'directories.tokendir = %s/tokens\nobjectstore.backend = file\nlog.level = ERROR\n' "$work" >"$SOFTHSM2_CONF"
    softhsm2-util --init-token --free --label T --so-pin 'battery staple' --pin 'correct horse' >/dev/null
    (umask 077 && echo 'correct horse' >"$work/pin")
    run_token 'SoftHSM, logged in' "pkcs11:token=T?module-path=$softhsm&pin-source=file:$work/pin" ChaCha '*.json'
    softhsm_uri="pkcs11:token=T?module-path=$softhsm"
    run_token 'SoftHSM, without a PIN' "$softhsm_uri" ChaCha 'snow.json'
else
    left_out 'SoftHSM is not installed'
fi

nss=$(find_module /usr/lib/x86_64-linux-gnu/libsoftokn3.so /usr/lib/aarch64-linux-gnu/libsoftokn3.so \
    /usr/lib64/libsoftokn3.so /usr/lib/libsoftokn3.so)
if [ -n "$nss" ]; then
    # configdir='' flags=noCertDB,noModDB,readOnly: no database at all, only its token for session keys
    arguments='configdir%3D%27%27%20flags%3DnoCertDB%2CnoModDB%2CreadOnly'
    nss_uri="pkcs11:token=NSS%20Generic%20Crypto%20Services?module-path=$nss&chaveiro-init=$arguments"
    run_token 'NSS' "$nss_uri" '' '*.json'
else
    left_out 'NSS is not installed'
fi

# Two modules that share no code, against each other and without software between them.
if [ -n "$softhsm_uri" ] && [ -n "$nss_uri" ]; then
    echo '== SoftHSM and NSS'
    ran=$((ran + 1))
    for program in contract pkcs11_session; do
        "$top_builddir/tests/backends/$program" "$softhsm_uri" "$nss_uri" >"$work/out" 2>&1 ||
            { cat "$work/out"; fail "SoftHSM and NSS: $program"; }
        grep -E '^ +tests|suites \.\.\.|asserts' "$work/out"
    done
fi

[ $ran -gt 0 ] || exit 77
echo "$ran passed, 0 failed"
