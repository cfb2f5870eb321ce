/* SPDX-License-Identifier: Apache-2.0 */
#include <config.h>

#include "tests/support/pkcs11_fault.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#pragma GCC visibility push(default)
extern struct chv_fault chv_fault;
struct chv_fault chv_fault = {.hang_read = -1, .hang_write = -1};
CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR list);
#pragma GCC visibility pop

static CK_FUNCTION_LIST *real;

/* What befalls one call. */
struct fault {
    bool hits;
    enum chv_fault_mode mode;
    CK_RV rv;
};

/* The text of a file in $CHV_FAULT_FOLDER; false if there is none. */
static bool read_told(const char *name, char *text, size_t size)
{
    char path[4096];
    const char *folder = getenv("CHV_FAULT_FOLDER");
    (void)snprintf(path, sizeof path, "%s/%s", folder != NULL ? folder : "", name);
    int fd = folder != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return false;
    ssize_t len = read(fd, text, size - 1);
    (void)close(fd);
    text[len > 0 ? len : 0] = '\0';
    return len > 0;
}

/* Which call of its name this is, from 1, counted across processes. */
static unsigned long count_call(const char *name)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/%s.calls", getenv("CHV_FAULT_FOLDER"), name);
    int calls = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    off_t n = calls >= 0 && write(calls, ".", 1) == 1 ? lseek(calls, 0, SEEK_CUR) : 0;
    if (calls >= 0)
        (void)close(calls);
    return (unsigned long)n;
}

static struct fault fault_of(const char *what)
{
    if (strcmp(what, "short") == 0)
        return (struct fault){true, CHV_FAULT_SHORT, CKR_OK};
    if (strcmp(what, "long") == 0)
        return (struct fault){true, CHV_FAULT_LONG, CKR_OK};
    if (strncmp(what, "after=", 6) == 0)
        return (struct fault){true, CHV_FAULT_AFTER, strtoul(what + 6, NULL, 0)};
    return (struct fault){true, CHV_FAULT_BEFORE, strtoul(what, NULL, 0)};
}

/* What the order of this name says of call `n`, which hangs here for as long as the order is there. */
static struct fault ordered(const char *order, unsigned long n)
{
    char text[80], what[32] = "";
    unsigned long first = 0, times = 0;
    const struct fault none = {.hits = false};
    if (!read_told(order, text, sizeof text) || sscanf(text, "%lu %lu %31s", &first, &times, what) != 3 || n < first ||
        n - first >= times)
        return none;
    if (strcmp(what, "kill") == 0)
        (void)kill(getpid(), SIGKILL);
    if (strcmp(what, "hang") != 0)
        return fault_of(what);
    while (read_told(order, text, sizeof text))
        (void)poll(NULL, 0, 20);
    return none;
}

/* PKCS #11 3.0, 2.62; NSS, pkcs11n.h. */
#define HKDF_DATA 0x402bUL
#define NSS_SP800_108_COUNTER_KDF_DATA (0xce534350UL + 42)

/* By order, else by the test in this process. */
static struct fault find_fault(const char *name, bool chosen)
{
    struct fault found = {.hits = false};
    char text[80];
    if (getenv("CHV_FAULT_FOLDER") != NULL) {
        found = ordered(name, count_call(name));
        if (!found.hits && read_told("any", text, sizeof text))
            found = ordered("any", count_call("any"));
    }
    if (found.hits || !chosen || (chv_fault.only != NULL && strcmp(chv_fault.only, name) != 0))
        return found;
    unsigned long n = ++chv_fault.calls;
    if (chv_fault.first == 0 || n < chv_fault.first || n - chv_fault.first >= chv_fault.times)
        return found;
    chv_fault.fired++;
    if (chv_fault.mode == CHV_FAULT_HANG) {
        char byte = 'h';
        if (write(chv_fault.hang_write, &byte, 1) != 1 || read(chv_fault.hang_read, &byte, 1) < 0)
            abort();
        return found;
    }
    return (struct fault){true, chv_fault.mode, chv_fault.rv};
}

static CK_RV bend(const struct fault *fault, CK_RV rv, CK_ULONG *len)
{
    if (!fault->hits)
        return rv;
    if (rv == CKR_OK && len != NULL && (fault->mode == CHV_FAULT_SHORT || fault->mode == CHV_FAULT_LONG))
        *len += fault->mode == CHV_FAULT_LONG ? 1 : (CK_ULONG)-1;
    else if (fault->mode == CHV_FAULT_AFTER)
        rv = fault->rv;
    return rv;
}

static bool not_made(const struct fault *fault)
{
    return fault->hits && fault->mode == CHV_FAULT_BEFORE;
}

/* One call by `function` with its fault, if it is `chosen` at all; `len` is the length that it gives, or NULL. */
#define PASS_BY(name, chosen, function, len, ...)                                                                      \
    do {                                                                                                               \
        struct fault fault_ = find_fault(#name, (chosen));                                                             \
        return not_made(&fault_) ? fault_.rv : bend(&fault_, function(__VA_ARGS__), (len));                            \
    } while (0)
#define PASS(name, len, ...) PASS_BY(name, true, real->name, len, __VA_ARGS__)

#define S CK_SESSION_HANDLE s
#define H CK_OBJECT_HANDLE

static CK_RV f_C_Initialize(void *args)
{
    chv_fault.initialised++;
    PASS(C_Initialize, NULL, args);
}

static CK_RV f_C_Finalize(void *args)
{
    chv_fault.finalised++;
    chv_fault.open_sessions = 0;
    return real->C_Finalize(args);
}

static CK_RV f_C_GetSlotList(CK_BBOOL present, CK_SLOT_ID *list, CK_ULONG *n)
{
    PASS(C_GetSlotList, NULL, present, list, n);
}

static CK_RV f_C_GetTokenInfo(CK_SLOT_ID slot, CK_TOKEN_INFO *info)
{
    struct fault fault = find_fault("C_GetTokenInfo", true);
    char told[80];
    if (not_made(&fault))
        return fault.rv;
    CK_RV rv = real->C_GetTokenInfo(slot, info);
    if (rv == CKR_OK) {
        info->flags |= chv_fault.token_flags | (chv_fault.made > 0 ? chv_fault.made_flags : 0);
        if (read_told("token-flags", told, sizeof told))
            info->flags |= strtoul(told, NULL, 0);
        if (chv_fault.max_sessions != 0)
            info->ulMaxSessionCount = chv_fault.max_sessions;
    }
    return bend(&fault, rv, NULL);
}

static CK_RV mechanism_info(CK_SLOT_ID slot, CK_MECHANISM_TYPE type, CK_MECHANISM_INFO *info)
{
    CK_RV rv = real->C_GetMechanismInfo(slot, type, info);
    if (rv == CKR_OK && chv_fault.wrap_only != 0)
        info->flags = (info->flags & ~CKF_WRAP) | (type == chv_fault.wrap_only ? CKF_WRAP : 0);
    return rv;
}

static CK_RV f_C_GetMechanismInfo(CK_SLOT_ID slot, CK_MECHANISM_TYPE type, CK_MECHANISM_INFO *info)
{
    PASS_BY(C_GetMechanismInfo, 1, mechanism_info, NULL, slot, type, info);
}

static CK_RV f_C_OpenSession(CK_SLOT_ID slot, CK_FLAGS flags, void *app, CK_NOTIFY notify, CK_SESSION_HANDLE *session)
{
    struct fault fault = find_fault("C_OpenSession", true);
    if (not_made(&fault))
        return fault.rv;
    if (chv_fault.max_sessions != 0 && chv_fault.open_sessions >= chv_fault.max_sessions)
        return CKR_SESSION_COUNT;
    CK_RV rv = real->C_OpenSession(slot, flags, app, notify, session);
    if (rv == CKR_OK && ++chv_fault.open_sessions > chv_fault.most_sessions)
        chv_fault.most_sessions = chv_fault.open_sessions;
    return bend(&fault, rv, NULL);
}

static CK_RV f_C_CloseSession(S)
{
    CK_RV rv = real->C_CloseSession(s);
    if (rv == CKR_OK && chv_fault.open_sessions > 0)
        chv_fault.open_sessions--;
    return rv;
}

static CK_RV f_C_Login(S, CK_USER_TYPE user, CK_UTF8CHAR *pin, CK_ULONG len)
{
    chv_fault.logins++;
    PASS(C_Login, NULL, s, user, pin, len);
}

static CK_RV f_C_InitToken(CK_SLOT_ID slot, CK_UTF8CHAR *pin, CK_ULONG len, CK_UTF8CHAR *label)
{
    chv_fault.made++;
    PASS(C_InitToken, NULL, slot, pin, len, label);
}

/* ---- giving keys out, and refusing to ---- */

/* A session object that can be read, of bytes that are nobody's. */
static CK_RV make_up(S, H *object)
{
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_KEY_TYPE type = CKK_GENERIC_SECRET;
    CK_BBOOL no = CK_FALSE;
    CK_BYTE value[32] = {0xfa};
    CK_ATTRIBUTE t[] = {{CKA_CLASS, &class, sizeof class},
                        {CKA_KEY_TYPE, &type, sizeof type},
                        {CKA_TOKEN, &no, sizeof no},
                        {CKA_VALUE, value, sizeof value}};
    return real->C_CreateObject(s, t, sizeof t / sizeof t[0], object);
}

/* NSS has both derivations to a data object too, which can be read: the same bytes. */
static CK_RV derive_data(S, const CK_MECHANISM *m, CK_MECHANISM_TYPE type, H b, const CK_ATTRIBUTE *t, CK_ULONG n, H *k)
{
    CK_OBJECT_CLASS class = CKO_DATA;
    CK_BBOOL no = CK_FALSE;
    CK_MECHANISM as_data = {type, m->pParameter, m->ulParameterLen};
    CK_ATTRIBUTE data[3] = {{CKA_CLASS, &class, sizeof class}, {CKA_TOKEN, &no, sizeof no}};
    for (CK_ULONG i = 0; i < n; i++)
        if (t[i].type == CKA_VALUE_LEN)
            data[2] = t[i];
    return real->C_DeriveKey(s, &as_data, b, data, 3, k);
}

static CK_RV derive(S, CK_MECHANISM *m, H b, CK_ATTRIBUTE *t, CK_ULONG n, H *k)
{
    if (chv_fault.grant != 0 && m->mechanism == chv_fault.grant)
        return make_up(s, k);
    if (!chv_fault.sealed)
        return real->C_DeriveKey(s, m, b, t, n, k);
    if (m->mechanism == CKM_HKDF_DERIVE)
        return derive_data(s, m, HKDF_DATA, b, t, n, k);
    if (m->mechanism == CKM_SP800_108_COUNTER_KDF)
        return derive_data(s, m, NSS_SP800_108_COUNTER_KDF_DATA, b, t, n, k);
    return CKR_MECHANISM_INVALID;
}

static CK_RV wrap(S, CK_MECHANISM *m, H w, H k, CK_BYTE *o, CK_ULONG *ol)
{
    if (chv_fault.grant != 0 && m->mechanism == chv_fault.grant)
        return CKR_OK;
    return chv_fault.sealed ? CKR_KEY_UNEXTRACTABLE : real->C_WrapKey(s, m, w, k, o, ol);
}

static bool chosen(const CK_MECHANISM *m)
{
    return chv_fault.with == 0 || chv_fault.with == m->mechanism;
}

static CK_RV f_C_DeriveKey(S, CK_MECHANISM *m, H b, CK_ATTRIBUTE *t, CK_ULONG n, H *k)
{
    PASS_BY(C_DeriveKey, chosen(m), derive, NULL, s, m, b, t, n, k);
}

static CK_RV f_C_WrapKey(S, CK_MECHANISM *m, H w, H k, CK_BYTE *o, CK_ULONG *ol)
{
    PASS_BY(C_WrapKey, chosen(m), wrap, ol, s, m, w, k, o, ol);
}

static CK_RV f_C_GetAttributeValue(S, H o, CK_ATTRIBUTE *t, CK_ULONG n)
{
    PASS_BY(C_GetAttributeValue, chv_fault.attribute == 0 || t[0].type == chv_fault.attribute,
            real->C_GetAttributeValue, &t[0].ulValueLen, s, o, t, n);
}

/* X(name, the length that it gives or NULL, (parameters), arguments) */
#define PLAIN(X)                                                                                                       \
    X(C_InitPIN, NULL, (S, CK_BYTE * p, CK_ULONG n), s, p, n)                                                          \
    X(C_SetPIN, NULL, (S, CK_BYTE * p, CK_ULONG n, CK_BYTE * q, CK_ULONG m), s, p, n, q, m)                            \
    X(C_GetSessionInfo, NULL, (S, CK_SESSION_INFO * i), s, i)                                                          \
    X(C_CreateObject, NULL, (S, CK_ATTRIBUTE * t, CK_ULONG n, H * o), s, t, n, o)                                      \
    X(C_CopyObject, NULL, (S, H o, CK_ATTRIBUTE * t, CK_ULONG n, H * c), s, o, t, n, c)                                \
    X(C_DestroyObject, NULL, (S, H o), s, o)                                                                           \
    X(C_SetAttributeValue, NULL, (S, H o, CK_ATTRIBUTE * t, CK_ULONG n), s, o, t, n)                                   \
    X(C_FindObjectsInit, NULL, (S, CK_ATTRIBUTE * t, CK_ULONG n), s, t, n)                                             \
    X(C_FindObjects, n, (S, H * o, CK_ULONG max, CK_ULONG * n), s, o, max, n)                                          \
    X(C_FindObjectsFinal, NULL, (S), s)                                                                                \
    X(C_EncryptInit, NULL, (S, CK_MECHANISM * m, H k), s, m, k)                                                        \
    X(C_Encrypt, ol, (S, CK_BYTE * i, CK_ULONG il, CK_BYTE * o, CK_ULONG * ol), s, i, il, o, ol)                       \
    X(C_DecryptInit, NULL, (S, CK_MECHANISM * m, H k), s, m, k)                                                        \
    X(C_Decrypt, ol, (S, CK_BYTE * i, CK_ULONG il, CK_BYTE * o, CK_ULONG * ol), s, i, il, o, ol)                       \
    X(C_DigestInit, NULL, (S, CK_MECHANISM * m), s, m)                                                                 \
    X(C_Digest, ol, (S, CK_BYTE * i, CK_ULONG il, CK_BYTE * o, CK_ULONG * ol), s, i, il, o, ol)                        \
    X(C_DigestUpdate, NULL, (S, CK_BYTE * i, CK_ULONG il), s, i, il)                                                   \
    X(C_DigestFinal, ol, (S, CK_BYTE * o, CK_ULONG * ol), s, o, ol)                                                    \
    X(C_SignInit, NULL, (S, CK_MECHANISM * m, H k), s, m, k)                                                           \
    X(C_Sign, ol, (S, CK_BYTE * i, CK_ULONG il, CK_BYTE * o, CK_ULONG * ol), s, i, il, o, ol)                          \
    X(C_SignUpdate, NULL, (S, CK_BYTE * i, CK_ULONG il), s, i, il)                                                     \
    X(C_SignFinal, ol, (S, CK_BYTE * o, CK_ULONG * ol), s, o, ol)                                                      \
    X(C_GenerateKey, NULL, (S, CK_MECHANISM * m, CK_ATTRIBUTE * t, CK_ULONG n, H * k), s, m, t, n, k)                  \
    X(C_GenerateKeyPair, NULL,                                                                                         \
      (S, CK_MECHANISM * m, CK_ATTRIBUTE * p, CK_ULONG pn, CK_ATTRIBUTE * q, CK_ULONG qn, H * pk, H * qk), s, m, p,    \
      pn, q, qn, pk, qk)                                                                                               \
    X(C_GenerateRandom, NULL, (S, CK_BYTE * o, CK_ULONG n), s, o, n)

#define DEFINE(name, len, params, ...)                                                                                 \
    static CK_RV f_##name params                                                                                       \
    {                                                                                                                  \
        PASS(name, len, __VA_ARGS__);                                                                                  \
    }
PLAIN(DEFINE)

CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR list)
{
    static CK_FUNCTION_LIST functions;
    const char *path = getenv("CHV_FAULT_MODULE");
    void *library = path != NULL ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    void *symbol = library != NULL ? dlsym(library, "C_GetFunctionList") : NULL;
    CK_C_GetFunctionList get;
    if (symbol == NULL)
        return CKR_LIBRARY_LOAD_FAILED;
    memcpy(&get, &symbol, sizeof get);
    CK_RV rv = get(&real);
    if (rv != CKR_OK)
        return rv;
    functions = *real;
#define SET(name, ...) functions.name = f_##name;
    PLAIN(SET)
    SET(C_Initialize)
    SET(C_Finalize)
    SET(C_GetSlotList)
    SET(C_GetTokenInfo)
    SET(C_InitToken)
    SET(C_GetMechanismInfo)
    SET(C_OpenSession)
    SET(C_CloseSession)
    SET(C_Login)
    SET(C_GetAttributeValue)
    SET(C_DeriveKey)
    SET(C_WrapKey)
    *list = &functions;
    return CKR_OK;
}
