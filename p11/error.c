/* SPDX-License-Identifier: Apache-2.0 */
#include "p11/error.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* X(answer, what it means here, hint): PKCS #11 2.40, section 3.6 (pkcs11t.h) and 5.1. NULL: no hint. */
#define RV_MAP(X)                                                                                                      \
    X(OK, CHV_OK, NULL)                                                                                                \
    X(CANCEL, CHV_ERR_CANCELLED, NULL)                                                                                 \
    X(HOST_MEMORY, CHV_ERR_MEMORY, "the host has no memory left")                                                      \
    X(SLOT_ID_INVALID, CHV_ERR_UNAVAILABLE, "the slot is gone: is the token still there?")                             \
    X(GENERAL_ERROR, CHV_ERR_UNAVAILABLE,                                                                              \
      "the module failed without saying why: see its own log, and whether the token's folder can be read")             \
    X(FUNCTION_FAILED, CHV_ERR_UNAVAILABLE, "see the module's own log")                                                \
    X(ARGUMENTS_BAD, CHV_ERR_CRYPTO, NULL)                                                                             \
    X(NEED_TO_CREATE_THREADS, CHV_ERR_UNSUPPORTED, "the module cannot be used here")                                   \
    X(CANT_LOCK, CHV_ERR_UNSUPPORTED, "the module cannot be used by threads")                                          \
    X(ATTRIBUTE_READ_ONLY, CHV_ERR_UNSUPPORTED, "the token does not let this attribute be set")                        \
    X(ATTRIBUTE_SENSITIVE, CHV_ERR_KEY, "the token does not give this out")                                            \
    X(ATTRIBUTE_TYPE_INVALID, CHV_ERR_UNSUPPORTED, "the token does not know an attribute")                             \
    X(ATTRIBUTE_VALUE_INVALID, CHV_ERR_UNSUPPORTED, "the token does not take such an object")                          \
    X(ACTION_PROHIBITED, CHV_ERR_KEY, "the object's attributes forbid it")                                             \
    X(DATA_INVALID, CHV_ERR_CRYPTO, NULL)                                                                              \
    X(DATA_LEN_RANGE, CHV_ERR_CRYPTO, NULL)                                                                            \
    X(DEVICE_ERROR, CHV_ERR_UNAVAILABLE, "the token or the way to it is broken: check device and cables, or p11-kit")  \
    X(DEVICE_MEMORY, CHV_ERR_SPACE, "the token is full: remove what is not needed in it")                              \
    X(DEVICE_REMOVED, CHV_ERR_UNAVAILABLE, "the token was taken out: put it back")                                     \
    X(ENCRYPTED_DATA_INVALID, CHV_ERR_AUTH, NULL)                                                                      \
    X(ENCRYPTED_DATA_LEN_RANGE, CHV_ERR_AUTH, NULL)                                                                    \
    X(FUNCTION_CANCELED, CHV_ERR_CANCELLED, NULL)                                                                      \
    X(FUNCTION_NOT_PARALLEL, CHV_ERR_UNSUPPORTED, NULL)                                                                \
    X(FUNCTION_NOT_SUPPORTED, CHV_ERR_UNSUPPORTED, "the token cannot do it: choose another token or suite")            \
    X(KEY_HANDLE_INVALID, CHV_ERR_KEY, "the key is gone: was the token initialised again?")                            \
    X(KEY_SIZE_RANGE, CHV_ERR_UNSUPPORTED, "the token does not take a key of this length here")                        \
    X(KEY_TYPE_INCONSISTENT, CHV_ERR_KEY, "the key is of another type: make it anew with keyadmin")                    \
    X(KEY_NOT_NEEDED, CHV_ERR_CRYPTO, NULL)                                                                            \
    X(KEY_CHANGED, CHV_ERR_KEY, NULL)                                                                                  \
    X(KEY_NEEDED, CHV_ERR_CRYPTO, NULL)                                                                                \
    X(KEY_INDIGESTIBLE, CHV_ERR_KEY, NULL)                                                                             \
    X(KEY_FUNCTION_NOT_PERMITTED, CHV_ERR_KEY, "the key's attributes forbid it: make it anew with keyadmin")           \
    X(KEY_NOT_WRAPPABLE, CHV_ERR_KEY, NULL)                                                                            \
    X(KEY_UNEXTRACTABLE, CHV_ERR_KEY, "the key stays in the token")                                                    \
    X(MECHANISM_INVALID, CHV_ERR_UNSUPPORTED, "the token lacks this mechanism: choose another token or suite")         \
    X(MECHANISM_PARAM_INVALID, CHV_ERR_CRYPTO, NULL)                                                                   \
    X(OBJECT_HANDLE_INVALID, CHV_ERR_KEY, "the object is gone: was the token moved or initialised again?")             \
    X(OPERATION_ACTIVE, CHV_ERR_UNAVAILABLE, "another operation was left open in this session")                        \
    X(OPERATION_NOT_INITIALIZED, CHV_ERR_UNAVAILABLE, NULL)                                                            \
    X(PIN_INCORRECT, CHV_ERR_PASSPHRASE, "wrong PIN: give the right one; it is not tried again by itself")             \
    X(PIN_INVALID, CHV_ERR_PASSPHRASE, "the token does not take such a PIN")                                           \
    X(PIN_LEN_RANGE, CHV_ERR_PASSPHRASE, "the PIN is too short or too long for this token")                            \
    X(PIN_EXPIRED, CHV_ERR_PASSPHRASE, "the PIN has expired: set a new one with the module's tool")                    \
    X(PIN_LOCKED, CHV_ERR_PASSPHRASE, "the PIN is locked: the security officer must set a new one")                    \
    X(SESSION_CLOSED, CHV_ERR_UNAVAILABLE, "the session was closed by somebody else")                                  \
    X(SESSION_COUNT, CHV_ERR_UNAVAILABLE, "all sessions of the token are taken: stop others that use it")              \
    X(SESSION_HANDLE_INVALID, CHV_ERR_UNAVAILABLE, "the session is gone: was the token taken out?")                    \
    X(SESSION_PARALLEL_NOT_SUPPORTED, CHV_ERR_UNSUPPORTED, NULL)                                                       \
    X(SESSION_READ_ONLY, CHV_ERR_STATE, "the token can only be read")                                                  \
    X(SESSION_EXISTS, CHV_ERR_BUSY, "somebody has the token open: stop what uses it")                                  \
    X(SESSION_READ_ONLY_EXISTS, CHV_ERR_BUSY, "somebody has the token open: stop what uses it")                        \
    X(SESSION_READ_WRITE_SO_EXISTS, CHV_ERR_BUSY, "the security officer is logged in: end that first")                 \
    X(SIGNATURE_INVALID, CHV_ERR_AUTH, NULL)                                                                           \
    X(SIGNATURE_LEN_RANGE, CHV_ERR_AUTH, NULL)                                                                         \
    X(TEMPLATE_INCOMPLETE, CHV_ERR_UNSUPPORTED, "the token wants more attributes for such an object")                  \
    X(TEMPLATE_INCONSISTENT, CHV_ERR_UNSUPPORTED, "the token does not take such an object")                            \
    X(TOKEN_NOT_PRESENT, CHV_ERR_UNAVAILABLE, "the token is not there: put it back")                                   \
    X(TOKEN_NOT_RECOGNIZED, CHV_ERR_UNAVAILABLE, "the module does not know this token")                                \
    X(TOKEN_WRITE_PROTECTED, CHV_ERR_STATE, "the token can only be read")                                              \
    X(UNWRAPPING_KEY_SIZE_RANGE, CHV_ERR_CRYPTO, NULL)                                                                 \
    X(UNWRAPPING_KEY_TYPE_INCONSISTENT, CHV_ERR_CRYPTO, NULL)                                                          \
    X(USER_ALREADY_LOGGED_IN, CHV_ERR_STATE, NULL)                                                                     \
    X(USER_NOT_LOGGED_IN, CHV_ERR_STORE_LOCKED, "the login was lost: give the PIN again or name a pin-source")         \
    X(USER_PIN_NOT_INITIALIZED, CHV_ERR_STORE_LOCKED,                                                                  \
      "the token has no user PIN yet: its security officer must set one")                                              \
    X(USER_TYPE_INVALID, CHV_ERR_UNSUPPORTED, NULL)                                                                    \
    X(USER_ANOTHER_ALREADY_LOGGED_IN, CHV_ERR_BUSY, "the security officer is logged in: end that first")               \
    X(USER_TOO_MANY_TYPES, CHV_ERR_BUSY, NULL)                                                                         \
    X(WRAPPED_KEY_INVALID, CHV_ERR_CRYPTO, NULL)                                                                       \
    X(WRAPPED_KEY_LEN_RANGE, CHV_ERR_CRYPTO, NULL)                                                                     \
    X(WRAPPING_KEY_HANDLE_INVALID, CHV_ERR_CRYPTO, NULL)                                                               \
    X(WRAPPING_KEY_SIZE_RANGE, CHV_ERR_CRYPTO, NULL)                                                                   \
    X(WRAPPING_KEY_TYPE_INCONSISTENT, CHV_ERR_CRYPTO, NULL)                                                            \
    X(RANDOM_SEED_NOT_SUPPORTED, CHV_ERR_UNSUPPORTED, NULL)                                                            \
    X(RANDOM_NO_RNG, CHV_ERR_UNSUPPORTED, "the token has no random generator: choose another token or backend")        \
    X(DOMAIN_PARAMS_INVALID, CHV_ERR_UNSUPPORTED, "the token lacks this curve")                                        \
    X(CURVE_NOT_SUPPORTED, CHV_ERR_UNSUPPORTED, "the token lacks this curve")                                          \
    X(BUFFER_TOO_SMALL, CHV_ERR_CRYPTO, "the token gave more than was asked for")                                      \
    X(INFORMATION_SENSITIVE, CHV_ERR_KEY, NULL)                                                                        \
    X(CRYPTOKI_NOT_INITIALIZED, CHV_ERR_UNAVAILABLE, "the module was finalised by somebody else in this process")      \
    X(CRYPTOKI_ALREADY_INITIALIZED, CHV_ERR_STATE, NULL)                                                               \
    X(MUTEX_BAD, CHV_ERR_UNAVAILABLE, NULL)                                                                            \
    X(MUTEX_NOT_LOCKED, CHV_ERR_UNAVAILABLE, NULL)                                                                     \
    X(FIPS_SELF_TEST_FAILED, CHV_ERR_SELFTEST, "the module's own self-test failed: do not use it")                     \
    X(LIBRARY_LOAD_FAILED, CHV_ERR_UNAVAILABLE, "the module could not load a library of its own")                      \
    X(PIN_TOO_WEAK, CHV_ERR_PASSPHRASE, "the token wants a stronger PIN")                                              \
    X(PUBLIC_KEY_INVALID, CHV_ERR_MALFORMED, NULL)                                                                     \
    X(FUNCTION_REJECTED, CHV_ERR_CANCELLED, "the token or its owner refused")

static const struct answer {
    CK_RV rv;
    enum chv_err err;
    const char *name, *hint;
} answers[] = {
#define RV_ROW(name, err, hint) {CKR_##name, err, "CKR_" #name, hint},
    RV_MAP(RV_ROW)
#undef RV_ROW
};

static const struct {
    CK_MECHANISM_TYPE type;
    const char *name;
} mechanisms[] = {
#define MECHANISM_ROW(name) {CKM_##name, "CKM_" #name},
    MECHANISM_ROW(GENERIC_SECRET_KEY_GEN) MECHANISM_ROW(SHA256_HMAC) MECHANISM_ROW(SHA512_HMAC) MECHANISM_ROW(SHA256)
        MECHANISM_ROW(SHA512) MECHANISM_ROW(EC_KEY_PAIR_GEN) MECHANISM_ROW(EC_EDWARDS_KEY_PAIR_GEN)
            MECHANISM_ROW(EC_MONTGOMERY_KEY_PAIR_GEN) MECHANISM_ROW(ECDH1_DERIVE) MECHANISM_ROW(ECDSA)
                MECHANISM_ROW(AES_GCM) MECHANISM_ROW(CHACHA20_POLY1305) MECHANISM_ROW(HKDF_DERIVE)
                    MECHANISM_ROW(SP800_108_COUNTER_KDF) MECHANISM_ROW(EXTRACT_KEY_FROM_KEY)
                        MECHANISM_ROW(CONCATENATE_BASE_AND_KEY) MECHANISM_ROW(CONCATENATE_BASE_AND_DATA)
                            MECHANISM_ROW(CONCATENATE_DATA_AND_BASE) MECHANISM_ROW(XOR_BASE_AND_DATA)
                                MECHANISM_ROW(AES_KEY_WRAP) MECHANISM_ROW(AES_KEY_WRAP_PAD) MECHANISM_ROW(AES_KEY_GEN)
                                    MECHANISM_ROW(AES_KEY_WRAP_KWP) MECHANISM_ROW(AES_ECB) MECHANISM_ROW(AES_CBC)
                                        MECHANISM_ROW(AES_CBC_PAD) MECHANISM_ROW(RSA_PKCS) MECHANISM_ROW(RSA_PKCS_OAEP)
                                            MECHANISM_ROW(RSA_PKCS_KEY_PAIR_GEN)
#undef MECHANISM_ROW
};

static const struct answer *find_answer(CK_RV rv)
{
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++)
        if (answers[i].rv == rv)
            return &answers[i];
    return NULL;
}

const char *chv_p11_rv_name(CK_RV rv)
{
    const struct answer *a = find_answer(rv);
    if (a != NULL)
        return a->name;
    return (rv & CKR_VENDOR_DEFINED) != 0 ? "CKR_VENDOR_DEFINED" : "CKR_?";
}

const char *chv_p11_mechanism_name(CK_MECHANISM_TYPE mechanism)
{
    for (size_t i = 0; i < sizeof mechanisms / sizeof mechanisms[0]; i++)
        if (mechanisms[i].type == mechanism)
            return mechanisms[i].name;
    return "CKM_?";
}

enum chv_err chv_p11_rv_error(CK_RV rv)
{
    const struct answer *a = find_answer(rv);
    return a != NULL ? a->err : CHV_ERR_CRYPTO;
}

bool chv_p11_rv_session_dead(CK_RV rv)
{
    switch (rv) {
    case CKR_CRYPTOKI_NOT_INITIALIZED:
    case CKR_DEVICE_REMOVED:
    case CKR_OPERATION_ACTIVE: /* an operation that nobody will end */
    case CKR_SESSION_CLOSED:
    case CKR_SESSION_HANDLE_INVALID:
    case CKR_SLOT_ID_INVALID:
    case CKR_TOKEN_NOT_PRESENT:
    case CKR_TOKEN_NOT_RECOGNIZED:
    case CKR_USER_NOT_LOGGED_IN: /* the next one logs in */
        return true;
    default:
        return false;
    }
}

bool chv_p11_rv_lost(CK_RV rv)
{
    switch (rv) {
    case CKR_DEVICE_ERROR:
    case CKR_FUNCTION_FAILED:
    case CKR_GENERAL_ERROR:
    case CKR_KEY_HANDLE_INVALID:
    case CKR_OBJECT_HANDLE_INVALID:
    case CKR_OPERATION_NOT_INITIALIZED:
        return true;
    default:
        return chv_p11_rv_session_dead(rv);
    }
}

const char *chv_p11_files(const char *where, char *buf, size_t size)
{
    const char *conf = getenv("SOFTHSM2_CONF");
    if (strstr(where, "softhsm") == NULL)
        return "";
    if (conf == NULL)
        return "SOFTHSM2_CONF is not set, so SoftHSM reads its system-wide configuration";
    (void)snprintf(buf, size, "SoftHSM reads SOFTHSM2_CONF=%.100s", conf);
    return buf;
}

/*
 * Modules give these three answers for whatever goes wrong with what they stand on.  With SoftHSM that is its files, which it
 * names in the system's log only.
 */
static const char *files_hint(const char *where, CK_RV rv, char *buf, size_t size)
{
    char files[CHV_P11_FILES_SIZE];
    const char *conf = chv_p11_files(where, files, sizeof files);
    if (*conf == '\0' || (rv != CKR_GENERAL_ERROR && rv != CKR_FUNCTION_FAILED && rv != CKR_DEVICE_ERROR))
        return NULL;
    (void)snprintf(buf, size,
                   "%s: can this user read that, and write to its directories.tokendir, and is the disk full? See the "
                   "module's own log (syslog)",
                   conf);
    return buf;
}

enum chv_err chv_p11_fail(struct chv_why *why, const char *where, const char *call, CK_MECHANISM_TYPE mechanism,
                          CK_RV rv)
{
    const struct answer *a = find_answer(rv);
    bool named = mechanism != CHV_P11_NO_MECHANISM;
    enum chv_err err = a != NULL ? a->err : CHV_ERR_CRYPTO;
    char files[CHV_P11_FILES_SIZE + 160];
    const char *hint = files_hint(where, rv, files, sizeof files);
    if (hint == NULL)
        hint = a != NULL && a->hint != NULL ? a->hint : "";
    return chv_fail(why, err, "%s: %s%s%s: %s (0x%lx)%s%s", where, call, named ? " with " : "",
                    named ? chv_p11_mechanism_name(mechanism) : "", chv_p11_rv_name(rv), rv, *hint != '\0' ? ": " : "",
                    hint);
}
