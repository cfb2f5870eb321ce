/* SPDX-License-Identifier: Apache-2.0 */
#include <config.h>

#include "tests/support/pkcs11_fault.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
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

/*
 * The order of $CHV_FAULT_FOLDER for this call, which counts in the file beside it across processes.  A call that is to
 * hang does so here, for as long as the order is there.
 */
static int ordered(const char *name, CK_RV *rv)
{
    char path[4096], text[80] = "", what[32] = "";
    unsigned long first = 0, times = 0;
    const char *folder = getenv("CHV_FAULT_FOLDER");
    if (folder == NULL)
        return 0;
    (void)snprintf(path, sizeof path, "%s/%s.calls", folder, name);
    int calls = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    off_t n = calls >= 0 && write(calls, ".", 1) == 1 ? lseek(calls, 0, SEEK_CUR) : 0;
    if (calls >= 0)
        (void)close(calls);
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    int order = open(path, O_RDONLY | O_CLOEXEC);
    if (order < 0)
        return 0;
    ssize_t len = read(order, text, sizeof text - 1);
    (void)close(order);
    if (len <= 0 || sscanf(text, "%lu %lu %31s", &first, &times, what) != 3 || (unsigned long)n < first ||
        (unsigned long)n - first >= times)
        return 0;
    if (strcmp(what, "hang") != 0) {
        *rv = strtoul(what, NULL, 0);
        return 1;
    }
    while (access(path, F_OK) == 0)
        (void)poll(NULL, 0, 20);
    return 0;
}

/* PKCS #11 3.0, 2.62; NSS, pkcs11n.h. */
#define HKDF_DATA 0x402bUL
#define NSS_SP800_108_COUNTER_KDF_DATA (0xce534350UL + 42)

/* Whether this call is one to be hit. */
static int hit(const char *name)
{
    if (chv_fault.only != NULL && strcmp(chv_fault.only, name) != 0)
        return 0;
    unsigned long n = ++chv_fault.calls;
    if (chv_fault.first == 0 || n < chv_fault.first || n - chv_fault.first >= chv_fault.times)
        return 0;
    chv_fault.fired++;
    if (chv_fault.mode == CHV_FAULT_HANG) {
        char byte = 'h';
        if (write(chv_fault.hang_write, &byte, 1) != 1 || read(chv_fault.hang_read, &byte, 1) < 0)
            abort();
        return 0;
    }
    return 1;
}

static CK_RV bend(CK_RV rv, CK_ULONG *len)
{
    if (rv == CKR_OK && len != NULL && (chv_fault.mode == CHV_FAULT_SHORT || chv_fault.mode == CHV_FAULT_LONG))
        *len += chv_fault.mode == CHV_FAULT_LONG ? 1 : (CK_ULONG)-1;
    else if (chv_fault.mode == CHV_FAULT_AFTER)
        rv = chv_fault.rv;
    return rv;
}

/* One call by `function` with its fault, if it is `chosen` at all; `len` is the length that it gives, or NULL. */
#define PASS_BY(name, chosen, function, len, ...)                                                                      \
    do {                                                                                                               \
        CK_RV order_;                                                                                                  \
        if (ordered(#name, &order_))                                                                                   \
            return order_;                                                                                             \
        int is_hit = (chosen) && hit(#name);                                                                           \
        if (is_hit && chv_fault.mode == CHV_FAULT_BEFORE)                                                              \
            return chv_fault.rv;                                                                                       \
        CK_RV rv_ = function(__VA_ARGS__);                                                                             \
        return is_hit ? bend(rv_, (len)) : rv_;                                                                        \
    } while (0)
#define PASS(name, len, ...) PASS_BY(name, 1, real->name, len, __VA_ARGS__)

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
    CK_RV order;
    if (ordered("C_GetTokenInfo", &order))
        return order;
    int is_hit = hit("C_GetTokenInfo");
    if (is_hit && chv_fault.mode == CHV_FAULT_BEFORE)
        return chv_fault.rv;
    CK_RV rv = real->C_GetTokenInfo(slot, info);
    if (rv == CKR_OK) {
        info->flags |= chv_fault.token_flags;
        if (chv_fault.max_sessions != 0)
            info->ulMaxSessionCount = chv_fault.max_sessions;
    }
    return is_hit ? bend(rv, NULL) : rv;
}

static CK_RV f_C_GetMechanismInfo(CK_SLOT_ID slot, CK_MECHANISM_TYPE type, CK_MECHANISM_INFO *info)
{
    PASS(C_GetMechanismInfo, NULL, slot, type, info);
}

static CK_RV f_C_OpenSession(CK_SLOT_ID slot, CK_FLAGS flags, void *app, CK_NOTIFY notify, CK_SESSION_HANDLE *session)
{
    CK_RV order;
    if (ordered("C_OpenSession", &order))
        return order;
    int is_hit = hit("C_OpenSession");
    if (is_hit && chv_fault.mode == CHV_FAULT_BEFORE)
        return chv_fault.rv;
    if (chv_fault.max_sessions != 0 && chv_fault.open_sessions >= chv_fault.max_sessions)
        return CKR_SESSION_COUNT;
    CK_RV rv = real->C_OpenSession(slot, flags, app, notify, session);
    if (rv == CKR_OK && ++chv_fault.open_sessions > chv_fault.most_sessions)
        chv_fault.most_sessions = chv_fault.open_sessions;
    return is_hit ? bend(rv, NULL) : rv;
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

static int chosen(const CK_MECHANISM *m)
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

/* X(name, the length that it gives or NULL, (parameters), arguments) */
#define PLAIN(X)                                                                                                       \
    X(C_GetSessionInfo, NULL, (S, CK_SESSION_INFO * i), s, i)                                                          \
    X(C_CreateObject, NULL, (S, CK_ATTRIBUTE * t, CK_ULONG n, H * o), s, t, n, o)                                      \
    X(C_CopyObject, NULL, (S, H o, CK_ATTRIBUTE * t, CK_ULONG n, H * c), s, o, t, n, c)                                \
    X(C_DestroyObject, NULL, (S, H o), s, o)                                                                           \
    X(C_GetAttributeValue, &t[0].ulValueLen, (S, H o, CK_ATTRIBUTE * t, CK_ULONG n), s, o, t, n)                       \
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
    SET(C_GetMechanismInfo)
    SET(C_OpenSession)
    SET(C_CloseSession)
    SET(C_Login)
    SET(C_DeriveKey)
    SET(C_WrapKey)
    *list = &functions;
    return CKR_OK;
}
