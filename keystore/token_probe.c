/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The probe: a key that may derive is used by a derive mechanism only where every way to its bytes was tried and refused.
 * What is no refusal by the table below proves nothing, and the key is not used.
 */
#include "keystore/token.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

/* What was tried. */
enum {
    PROBE_WRAP = 1,
    PROBE_DERIVE_READABLE = 2,  /* C_DeriveKey to a key that can be read */
    PROBE_DERIVE_PROTECTED = 4, /* to one that cannot: a piece of one byte is found by trying its HMACs */
    PROBE_DERIVE = PROBE_DERIVE_READABLE | PROBE_DERIVE_PROTECTED,
    PROBE_ALL = PROBE_WRAP | PROBE_DERIVE
};

/* The answers by which a token says that it does not do this with this key, and to which attempts (PKCS #11 2.40, 5.1). */
static const struct {
    CK_RV rv;
    unsigned attempts;
} refusals[] = {
    {CKR_FUNCTION_NOT_SUPPORTED, PROBE_ALL},     /* the token derives or wraps nothing at all */
    {CKR_MECHANISM_INVALID, PROBE_ALL},          /* it lacks the mechanism, or the key's CKA_ALLOWED_MECHANISMS does */
    {CKR_KEY_FUNCTION_NOT_PERMITTED, PROBE_ALL}, /* the key's attributes do not allow the function */
    {CKR_KEY_TYPE_INCONSISTENT, PROBE_ALL},      /* the mechanism is not for keys of this type */
    {CKR_ACTION_PROHIBITED, PROBE_ALL},          /* the token's policy, or the key's, forbids it */
    {CKR_KEY_UNEXTRACTABLE, PROBE_ALL},          /* CKA_EXTRACTABLE is false */
    {CKR_KEY_NOT_WRAPPABLE, PROBE_WRAP},         /* it is not wrapped, by whatever mechanism */
    /* what comes from a protected key must be protected: the attempt at a protected one decides */
    {CKR_TEMPLATE_INCONSISTENT, PROBE_DERIVE_READABLE},
    {CKR_ATTRIBUTE_VALUE_INVALID, PROBE_DERIVE_READABLE},
    {CKR_ATTRIBUTE_READ_ONLY, PROBE_DERIVE_READABLE},
};

struct probe {
    struct chv_p11_session *s;
    CK_OBJECT_HANDLE key;
    const char *label;
    const char **way; /* where the name of what works goes */
    struct chv_why *why;
    CK_OBJECT_HANDLE aes, rsa, rsa_private; /* keys that wrap, made when they are needed */
};

/* ---- answers ---- */

static bool refused(CK_RV rv, unsigned attempt)
{
    for (size_t i = 0; i < COUNT(refusals); i++)
        if (refusals[i].rv == rv)
            return (refusals[i].attempts & attempt) != 0;
    return false;
}

static enum chv_err no_proof(const struct probe *p)
{
    struct chv_why detail = {""};
    enum chv_err err = chv_p11_session_fail(p->s, &detail);
    return chv_fail(p->why, err,
                    "%s; so nothing shows that key '%s' stays in the token, and it is not used by derive mechanisms: "
                    "try again, or leave chaveiro-derive off",
                    detail.text, p->label);
}

static enum chv_err leaks(const struct probe *p, const char *call)
{
    const char *mechanism = chv_p11_mechanism_name(p->s->mechanism);
    if (p->way != NULL)
        *p->way = mechanism;
    return chv_fail(p->why, CHV_ERR_KEY,
                    "%s: key '%s' is refused for derive mechanisms: %s with %s gives its bytes out; leave "
                    "chaveiro-derive off and make the key anew (without it the key cannot derive)",
                    p->s->where, p->label, call, mechanism);
}

/* ---- deriving ---- */

static enum chv_err try_derive(const struct probe *p, CK_MECHANISM *mechanism, CK_ULONG length, unsigned attempt)
{
    struct chv_p11_session *s = p->s;
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_KEY_TYPE type = CKK_GENERIC_SECRET;
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    bool readable = attempt == PROBE_DERIVE_READABLE;
    CK_ATTRIBUTE t[] = {{CKA_CLASS, &class, sizeof class},
                        {CKA_KEY_TYPE, &type, sizeof type},
                        {CKA_VALUE_LEN, &length, sizeof length},
                        {CKA_TOKEN, &no, sizeof no},
                        {CKA_SENSITIVE, readable ? &no : &yes, sizeof no},
                        {CKA_EXTRACTABLE, readable ? &yes : &no, sizeof yes}};
    CK_OBJECT_HANDLE derived = CK_INVALID_HANDLE;
    if (chv_p11_call_for(s, mechanism->mechanism, C_DeriveKey, mechanism, p->key, t, COUNT(t), &derived) == CKR_OK) {
        (void)s->fn->C_DestroyObject(s->handle, derived);
        return leaks(p, "C_DeriveKey");
    }
    return refused(s->rv, attempt) ? CHV_OK : no_proof(p);
}

/* Each of these makes a key whose bytes tell those of the base key (PKCS #11 2.40, current mechanisms, 2.35). */
static enum chv_err probe_derive(const struct probe *p)
{
    CK_ULONG first_bit = 0;
    uint8_t zeros[CHV_SECRET_LEN] = {0};
    CK_KEY_DERIVATION_STRING_DATA data = {zeros, 1}, mask = {zeros, sizeof zeros};
    CK_OBJECT_HANDLE same = p->key;
    struct {
        CK_MECHANISM mechanism;
        CK_ULONG length;
    } ways[] = {
        {{CKM_EXTRACT_KEY_FROM_KEY, &first_bit, sizeof first_bit}, 1},
        {{CKM_CONCATENATE_BASE_AND_KEY, &same, sizeof same}, CHV_SECRET_LEN},
        {{CKM_CONCATENATE_BASE_AND_DATA, &data, sizeof data}, CHV_SECRET_LEN},
        {{CKM_CONCATENATE_DATA_AND_BASE, &data, sizeof data}, CHV_SECRET_LEN},
        {{CKM_XOR_BASE_AND_DATA, &mask, sizeof mask}, CHV_SECRET_LEN},
    };
    enum chv_err err = CHV_OK;
    for (size_t i = 0; i < COUNT(ways) && err == CHV_OK; i++) {
        err = try_derive(p, &ways[i].mechanism, ways[i].length, PROBE_DERIVE_READABLE);
        if (err == CHV_OK)
            err = try_derive(p, &ways[i].mechanism, ways[i].length, PROBE_DERIVE_PROTECTED);
    }
    return err;
}

/* ---- wrapping ---- */

static CK_BYTE wrap_iv[16];
static CK_RSA_PKCS_OAEP_PARAMS wrap_oaep = {.hashAlg = CKM_SHA_1, .mgf = CKG_MGF1_SHA1, .source = CKZ_DATA_SPECIFIED};

static const struct wrap_way {
    CK_MECHANISM mechanism;
    bool rsa; /* by an RSA key, else by one of AES */
} wrap_ways[] = {
    {{CKM_AES_KEY_WRAP, NULL, 0}, false},
    {{CKM_AES_KEY_WRAP_PAD, NULL, 0}, false},
    {{CKM_AES_KEY_WRAP_KWP, NULL, 0}, false},
    {{CKM_AES_ECB, NULL, 0}, false},
    {{CKM_AES_CBC, wrap_iv, sizeof wrap_iv}, false},
    {{CKM_AES_CBC_PAD, wrap_iv, sizeof wrap_iv}, false},
    {{CKM_RSA_PKCS, NULL, 0}, true},
    {{CKM_RSA_PKCS_OAEP, &wrap_oaep, sizeof wrap_oaep}, true},
};

static enum chv_err make_aes(struct probe *p)
{
    CK_MECHANISM generate = {CKM_AES_KEY_GEN, NULL, 0};
    CK_ULONG length = 32;
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_ATTRIBUTE t[] = {
        {CKA_VALUE_LEN, &length, sizeof length}, {CKA_TOKEN, &no, sizeof no}, {CKA_WRAP, &yes, sizeof yes}};
    return chv_p11_call_for(p->s, generate.mechanism, C_GenerateKey, &generate, t, COUNT(t), &p->aes) == CKR_OK
               ? CHV_OK
               : no_proof(p);
}

static enum chv_err make_rsa(struct probe *p)
{
    CK_MECHANISM generate = {CKM_RSA_PKCS_KEY_PAIR_GEN, NULL, 0};
    CK_ULONG bits = 2048;
    CK_BYTE exponent[] = {1, 0, 1};
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_ATTRIBUTE public_t[] = {{CKA_MODULUS_BITS, &bits, sizeof bits},
                               {CKA_PUBLIC_EXPONENT, exponent, sizeof exponent},
                               {CKA_TOKEN, &no, sizeof no},
                               {CKA_WRAP, &yes, sizeof yes}};
    CK_ATTRIBUTE private_t[] = {{CKA_TOKEN, &no, sizeof no}, {CKA_UNWRAP, &yes, sizeof yes}};
    return chv_p11_call_for(p->s, generate.mechanism, C_GenerateKeyPair, &generate, public_t, COUNT(public_t),
                            private_t, COUNT(private_t), &p->rsa, &p->rsa_private) == CKR_OK
               ? CHV_OK
               : no_proof(p);
}

static enum chv_err try_wrap(struct probe *p, const struct wrap_way *way)
{
    struct chv_p11_session *s = p->s;
    CK_MECHANISM mechanism = way->mechanism;
    uint8_t wrapped[512];
    CK_ULONG len = sizeof wrapped;
    enum chv_err err = CHV_OK;
    if (way->rsa && p->rsa == CK_INVALID_HANDLE)
        err = make_rsa(p);
    else if (!way->rsa && p->aes == CK_INVALID_HANDLE)
        err = make_aes(p);
    if (err != CHV_OK)
        return err;
    CK_OBJECT_HANDLE wrapper = way->rsa ? p->rsa : p->aes;
    if (chv_p11_call_for(s, mechanism.mechanism, C_WrapKey, &mechanism, wrapper, p->key, wrapped, &len) == CKR_OK)
        err = leaks(p, "C_WrapKey");
    else if (!refused(s->rv, PROBE_WRAP))
        err = no_proof(p);
    chv_wipe(wrapped, sizeof wrapped);
    return err;
}

enum { MECHANISMS_MAX = 4096 }; /* more is no number of mechanisms: CK_UNAVAILABLE_INFORMATION, or a broken module */

/* What the token says is no proof, either. */
static enum chv_err bad_count(const struct probe *p, CK_ULONG count)
{
    return chv_fail(
        p->why, CHV_ERR_CRYPTO,
        "%s: C_GetMechanismList: impossible number of mechanisms, %lu; so nothing shows that key '%s' stays "
        "in the token, and it is not used by derive mechanisms: leave chaveiro-derive off",
        p->s->where, count, p->label);
}

/* The token's mechanisms; freed by the caller.  The session knows the slot: nothing of the token's own is asked. */
static enum chv_err list_mechanisms(const struct probe *p, CK_SLOT_ID *slot, CK_MECHANISM_TYPE **list, CK_ULONG *count)
{
    struct chv_p11_session *s = p->s;
    CK_SESSION_INFO info;
    if (chv_p11_call(s, C_GetSessionInfo, &info) != CKR_OK)
        return no_proof(p);
    s->call = "C_GetMechanismList";
    s->rv = s->fn->C_GetMechanismList(info.slotID, NULL, count);
    if (s->rv != CKR_OK)
        return no_proof(p);
    const CK_ULONG room = *count;
    if (room > MECHANISMS_MAX)
        return bad_count(p, room);
    CK_MECHANISM_TYPE *types = calloc(room + 1, sizeof *types);
    if (types == NULL)
        return chv_fail(p->why, CHV_ERR_MEMORY, "%s: out of memory", s->where);
    s->rv = s->fn->C_GetMechanismList(info.slotID, types, count);
    if (s->rv != CKR_OK) {
        free(types);
        return no_proof(p);
    }
    if (*count > room) { /* what it says that it wrote does not fit */
        free(types);
        return bad_count(p, *count);
    }
    *slot = info.slotID;
    *list = types;
    return CHV_OK;
}

static const struct wrap_way *find_way(CK_MECHANISM_TYPE type)
{
    for (size_t i = 0; i < COUNT(wrap_ways); i++)
        if (wrap_ways[i].mechanism.mechanism == type)
            return &wrap_ways[i];
    return NULL;
}

/* By what the token says that it wraps by.  One that only has ways that are not known here is not trusted. */
static enum chv_err probe_wrap(struct probe *p)
{
    struct chv_p11_session *s = p->s;
    CK_MECHANISM_TYPE *types = NULL, unknown = CHV_P11_NO_MECHANISM;
    CK_ULONG count = 0;
    CK_SLOT_ID slot = 0;
    bool tried = false;
    enum chv_err err = list_mechanisms(p, &slot, &types, &count);
    for (CK_ULONG i = 0; types != NULL && i < count && err == CHV_OK; i++) {
        CK_MECHANISM_INFO info = {.flags = 0};
        const struct wrap_way *way = find_way(types[i]);
        s->call = "C_GetMechanismInfo";
        s->mechanism = types[i];
        s->rv = s->fn->C_GetMechanismInfo(slot, types[i], &info);
        if (s->rv != CKR_OK) {
            err = no_proof(p);
        } else if ((info.flags & CKF_WRAP) != 0 && way != NULL) {
            err = try_wrap(p, way);
            tried = true;
        } else if ((info.flags & CKF_WRAP) != 0) {
            unknown = types[i];
        }
    }
    if (err == CHV_OK && !tried && unknown != CHV_P11_NO_MECHANISM)
        err = chv_fail(p->why, CHV_ERR_UNSUPPORTED,
                       "%s: wraps keys by mechanisms that are not known here (0x%lx): nothing shows that key '%s' "
                       "stays in the token; leave chaveiro-derive off",
                       s->where, unknown, p->label);
    free(types);
    const CK_OBJECT_HANDLE made[] = {p->aes, p->rsa, p->rsa_private};
    for (size_t i = 0; i < COUNT(made); i++)
        if (made[i] != CK_INVALID_HANDLE)
            (void)s->fn->C_DestroyObject(s->handle, made[i]);
    return err;
}

enum chv_err chv_token_probe(struct chv_p11_session *s, CK_OBJECT_HANDLE key, const char *label, const char **way,
                             struct chv_why *why)
{
    struct probe p = {.s = s, .key = key, .label = label, .way = way, .why = why};
    if (way != NULL)
        *way = NULL;
    enum chv_err err = probe_derive(&p);
    if (err == CHV_OK)
        err = probe_wrap(&p);
    if (err == CHV_OK)
        s->rv = CKR_OK; /* refusals are what was wanted */
    return err;
}
