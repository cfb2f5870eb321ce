/* SPDX-License-Identifier: Apache-2.0 */
#include "p11/object.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* ---- finding ---- */

/* Handles of a search, all of them or as many as fit. */
struct hits {
    CK_OBJECT_HANDLE *objects;
    size_t count, room;
    bool grow;
};

static enum chv_err note_hits(struct hits *h, const CK_OBJECT_HANDLE *found, CK_ULONG n, struct chv_p11_session *s,
                              struct chv_why *why)
{
    if (h->grow && h->count + n > h->room) {
        size_t room = h->room * 2 + n;
        CK_OBJECT_HANDLE *larger = realloc(h->objects, room * sizeof *larger);
        if (larger == NULL)
            return chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", s->where);
        h->objects = larger;
        h->room = room;
    }
    for (CK_ULONG i = 0; i < n; i++, h->count++)
        if (h->count < h->room)
            h->objects[h->count] = found[i];
    return CHV_OK;
}

static enum chv_err search(struct chv_p11_session *s, const CK_ATTRIBUTE *match, CK_ULONG n, struct hits *h,
                           struct chv_why *why)
{
    CK_OBJECT_HANDLE found[64] = {CK_INVALID_HANDLE};
    CK_ULONG got = 0;
    enum chv_err err = CHV_OK;
    if (chv_p11_call(s, C_FindObjectsInit, (CK_ATTRIBUTE_PTR)(uintptr_t)match, n) != CKR_OK)
        return chv_p11_session_fail(s, why);
    do {
        if (chv_p11_call(s, C_FindObjects, found, sizeof found / sizeof found[0], &got) != CKR_OK)
            err = chv_p11_session_fail(s, why);
        else if (got > sizeof found / sizeof found[0])
            err = chv_fail(why, CHV_ERR_CRYPTO, "%s: C_FindObjects: says more objects than it was asked for", s->where);
        else
            err = note_hits(h, found, got, s, why);
    } while (err == CHV_OK && got > 0);
    /* on every path: a search left open makes the next one fail; it does not hide the first error */
    CK_RV rv = s->fn->C_FindObjectsFinal(s->handle);
    if (err == CHV_OK && rv != CKR_OK) {
        s->call = "C_FindObjectsFinal";
        s->rv = rv;
        err = chv_p11_session_fail(s, why);
    }
    return err;
}

enum chv_err chv_p11_find(struct chv_p11_session *s, const CK_ATTRIBUTE *match, CK_ULONG n, CK_OBJECT_HANDLE *objects,
                          size_t max, size_t *count, struct chv_why *why)
{
    struct hits h = {.objects = objects, .room = max};
    enum chv_err err = search(s, match, n, &h, why);
    if (err == CHV_OK)
        *count = h.count;
    return err;
}

enum chv_err chv_p11_find_each(struct chv_p11_session *s, const CK_ATTRIBUTE *match, CK_ULONG n, chv_p11_object_fn each,
                               void *arg, struct chv_why *why)
{
    struct hits h = {.grow = true};
    enum chv_err err = search(s, match, n, &h, why);
    for (size_t i = 0; err == CHV_OK && i < h.count; i++)
        err = each(s, h.objects[i], arg, why);
    free(h.objects);
    return err;
}

/* ---- reading ---- */

enum chv_err chv_p11_get(struct chv_p11_session *s, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type, void *out,
                         size_t *len, struct chv_why *why)
{
    CK_ATTRIBUTE a = {type, out, *len};
    CK_RV rv = chv_p11_call(s, C_GetAttributeValue, object, &a, 1);
    if (rv == CKR_ATTRIBUTE_TYPE_INVALID)
        return chv_fail(why, CHV_ERR_NOT_FOUND, "%s: an object has no attribute 0x%lx", s->where, type);
    if (rv == CKR_BUFFER_TOO_SMALL)
        return chv_fail(why, CHV_ERR_SPACE, "%s: attribute 0x%lx has more than %zu bytes", s->where, type, *len);
    if (rv != CKR_OK)
        return chv_p11_session_fail(s, why);
    if (a.ulValueLen == CK_UNAVAILABLE_INFORMATION || a.ulValueLen > *len)
        return chv_fail(why, CHV_ERR_CRYPTO, "%s: C_GetAttributeValue: impossible length of attribute 0x%lx", s->where,
                        type);
    *len = a.ulValueLen;
    return CHV_OK;
}

enum chv_err chv_p11_get_ulong(struct chv_p11_session *s, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type,
                               CK_ULONG *out, struct chv_why *why)
{
    CK_ULONG value = 0;
    size_t len = sizeof value;
    enum chv_err err = chv_p11_get(s, object, type, &value, &len, why);
    if (err == CHV_OK && len != sizeof value)
        err = chv_fail(why, CHV_ERR_CRYPTO, "%s: C_GetAttributeValue: attribute 0x%lx has %zu bytes, no number",
                       s->where, type, len);
    if (err == CHV_OK)
        *out = value;
    return err;
}

#define RULE(name, want)                                                                                               \
    {                                                                                                                  \
        name, #name, want                                                                                              \
    }
const struct chv_p11_rule chv_p11_secret_rules[] = {
    RULE(CKA_PRIVATE, true),  RULE(CKA_SENSITIVE, true), RULE(CKA_EXTRACTABLE, false), RULE(CKA_SIGN, true),
    RULE(CKA_VERIFY, false),  RULE(CKA_DERIVE, false),   RULE(CKA_WRAP, false),        RULE(CKA_UNWRAP, false),
    RULE(CKA_ENCRYPT, false), RULE(CKA_DECRYPT, false),
};
const size_t chv_p11_secret_rule_count = sizeof chv_p11_secret_rules / sizeof chv_p11_secret_rules[0];

/* An attribute that the object does not have, or that has no byte, is as good as false; *given (or NULL) tells. */
static enum chv_err get_flag(struct chv_p11_session *s, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type, bool *on,
                             bool *given, struct chv_why *why)
{
    CK_BBOOL value = CK_FALSE;
    size_t len = sizeof value;
    enum chv_err err = chv_p11_get(s, object, type, &value, &len, why);
    if (err == CHV_ERR_NOT_FOUND) {
        s->rv = CKR_OK;
        len = 0;
        err = CHV_OK;
    }
    if (err != CHV_OK)
        return err;
    *on = len == sizeof value && value != CK_FALSE;
    if (given != NULL)
        *given = len == sizeof value;
    return CHV_OK;
}

/* Every secret and private key has these (PKCS #11 2.40, 4.9 and 4.10): a token that does not say them says nothing. */
static bool must_be_given(CK_ATTRIBUTE_TYPE type)
{
    return type == CKA_SENSITIVE || type == CKA_EXTRACTABLE;
}

enum chv_err chv_p11_check(struct chv_p11_session *s, CK_OBJECT_HANDLE object, const char *what,
                           const struct chv_p11_rule *rules, size_t n, struct chv_why *why)
{
    bool on = false, given = false, local = false, always = true;
    for (size_t i = 0; i < n; i++) {
        enum chv_err err = get_flag(s, object, rules[i].type, &on, &given, why);
        if (err != CHV_OK)
            return err;
        if (!given && must_be_given(rules[i].type))
            return chv_fail(why, CHV_ERR_KEY,
                            "%s: key '%s' is refused: the token does not give its %s, so nothing shows that it stays "
                            "inside: remove it with the token's own tool and make a new one with keyadmin, or use "
                            "another token",
                            s->where, what, rules[i].name);
        if (on != rules[i].want)
            return chv_fail(why, CHV_ERR_KEY,
                            "%s: key '%s' is refused: its %s is %s and must be %s (it could be read, or used for "
                            "something else): remove it with the token's own tool and make a new one with keyadmin",
                            s->where, what, rules[i].name, on ? "true" : "false", rules[i].want ? "true" : "false");
    }
    /* made here but readable for a while: somebody may have a copy (PKCS #11 2.40, 4.9: imported ones never have it) */
    enum chv_err err = get_flag(s, object, CKA_LOCAL, &local, NULL, why);
    if (err == CHV_OK && local)
        err = get_flag(s, object, CKA_NEVER_EXTRACTABLE, &always, NULL, why);
    if (err == CHV_OK && local && !always)
        err = chv_fail(why, CHV_ERR_KEY,
                       "%s: key '%s' is refused: its CKA_NEVER_EXTRACTABLE is false: it could be read once; remove "
                       "it with the token's own tool and make a new one with keyadmin",
                       s->where, what);
    return err;
}

enum chv_err chv_p11_check_allowed(struct chv_p11_session *s, CK_OBJECT_HANDLE object, const char *what,
                                   const CK_MECHANISM_TYPE *allowed, size_t n, struct chv_why *why)
{
    CK_MECHANISM_TYPE has[16];
    size_t len = sizeof has;
    enum chv_err err = chv_p11_get(s, object, CKA_ALLOWED_MECHANISMS, has, &len, why);
    if (err == CHV_ERR_NOT_FOUND) {
        s->rv = CKR_OK;
        return CHV_OK;
    }
    if (err == CHV_ERR_SPACE)
        return chv_fail(why, CHV_ERR_KEY, "%s: key '%s' is refused: its CKA_ALLOWED_MECHANISMS has more than %zu",
                        s->where, what, n);
    for (size_t i = 0; err == CHV_OK && i < len / sizeof has[0]; i++) {
        bool good = false;
        for (size_t j = 0; j < n; j++)
            good = good || has[i] == allowed[j];
        if (!good)
            err = chv_fail(why, CHV_ERR_KEY,
                           "%s: key '%s' is refused: its CKA_ALLOWED_MECHANISMS has %s (0x%lx), which it must not be "
                           "used for: remove it with the token's own tool and make a new one with keyadmin",
                           s->where, what, chv_p11_mechanism_name(has[i]), has[i]);
    }
    return err;
}

/* ---- secrets ---- */

/* NSS says CKR_GENERAL_ERROR when its database has no column for an attribute. */
static bool template_refused(CK_RV rv)
{
    return rv == CKR_GENERAL_ERROR || rv == CKR_ATTRIBUTE_TYPE_INVALID || rv == CKR_ATTRIBUTE_VALUE_INVALID ||
           rv == CKR_TEMPLATE_INCONSISTENT || rv == CKR_ATTRIBUTE_READ_ONLY;
}

enum { SECRET_ATTRIBUTES = 18 };

/* CKA_ALLOWED_MECHANISMS comes last, so that it can be left off. */
static CK_ULONG secret_template(const struct chv_p11_secret *secret, CK_ATTRIBUTE t[SECRET_ATTRIBUTES])
{
    static CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    static CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    static CK_KEY_TYPE type = CKK_GENERIC_SECRET;
    static CK_ULONG length = 32;
    static CK_MECHANISM_TYPE allowed[] = {CKM_SHA256_HMAC};
    CK_ULONG n = 0;
    const struct {
        CK_ATTRIBUTE_TYPE type;
        bool on;
    } flags[] = {
        {CKA_TOKEN, secret->token},
        {CKA_PRIVATE, true},
        {CKA_SENSITIVE, true},
        {CKA_EXTRACTABLE, false},
        {CKA_SIGN, true},
        {CKA_VERIFY, false},
        {CKA_ENCRYPT, false},
        {CKA_DECRYPT, false},
        {CKA_WRAP, false},
        {CKA_UNWRAP, false},
        {CKA_DERIVE, secret->derive},
        {CKA_MODIFIABLE, secret->modifiable},
    };
    t[n++] = (CK_ATTRIBUTE){CKA_CLASS, &class, sizeof class};
    t[n++] = (CK_ATTRIBUTE){CKA_KEY_TYPE, &type, sizeof type};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        t[n++] = (CK_ATTRIBUTE){flags[i].type, flags[i].on ? &yes : &no, sizeof yes};
    t[n++] = secret->value != NULL ? (CK_ATTRIBUTE){CKA_VALUE, (void *)(uintptr_t)secret->value, secret->value_len}
                                   : (CK_ATTRIBUTE){CKA_VALUE_LEN, &length, sizeof length};
    if (secret->label != NULL) {
        t[n++] = (CK_ATTRIBUTE){CKA_LABEL, (void *)(uintptr_t)secret->label, strlen(secret->label)};
        t[n++] = (CK_ATTRIBUTE){CKA_ID, (void *)(uintptr_t)secret->label, strlen(secret->label)};
    }
    t[n++] = (CK_ATTRIBUTE){CKA_ALLOWED_MECHANISMS, allowed, sizeof allowed};
    return n;
}

/* With the first `n` attributes of the template. */
static CK_RV make_secret(struct chv_p11_session *s, const struct chv_p11_secret *secret, CK_ATTRIBUTE *t, CK_ULONG n,
                         CK_OBJECT_HANDLE *made)
{
    CK_MECHANISM generate = {CKM_GENERIC_SECRET_KEY_GEN, NULL, 0};
    return secret->value != NULL ? chv_p11_call(s, C_CreateObject, t, n, made)
                                 : chv_p11_call_for(s, generate.mechanism, C_GenerateKey, &generate, t, n, made);
}

/*
 * A key without CKA_ALLOWED_MECHANISMS, for tokens that do not take it.  CKR_GENERAL_ERROR may also have been a fault that
 * is over, so after that answer the attribute is tried once more, now that the token works: it stays off only where it is
 * refused again, and if it is taken the key without it goes.
 */
static CK_RV make_unlimited(struct chv_p11_session *s, const struct chv_p11_secret *secret, CK_ATTRIBUTE *t, CK_ULONG n,
                            CK_OBJECT_HANDLE *made)
{
    CK_OBJECT_HANDLE lesser = CK_INVALID_HANDLE, limited = CK_INVALID_HANDLE;
    const bool doubtful = s->rv == CKR_GENERAL_ERROR;
    CK_RV rv = make_secret(s, secret, t, n - 1, &lesser);
    if (rv != CKR_OK || !doubtful) {
        *made = lesser;
        return rv;
    }
    rv = make_secret(s, secret, t, n, &limited);
    if (template_refused(rv)) {
        s->rv = CKR_OK;
        *made = lesser;
        return CKR_OK;
    }
    if (rv != CKR_OK) {
        (void)s->fn->C_DestroyObject(s->handle, lesser);
        return rv;
    }
    if (chv_p11_call(s, C_DestroyObject, lesser) != CKR_OK) { /* two of one label are none */
        (void)s->fn->C_DestroyObject(s->handle, limited);
        return s->rv;
    }
    *made = limited;
    return CKR_OK;
}

enum chv_err chv_p11_secret_make(struct chv_p11_session *s, const struct chv_p11_secret *secret,
                                 CK_OBJECT_HANDLE *object, struct chv_why *why)
{
    CK_ATTRIBUTE t[SECRET_ATTRIBUTES];
    CK_OBJECT_HANDLE made = CK_INVALID_HANDLE;
    const CK_ULONG n = secret_template(secret, t);
    CK_RV rv = make_secret(s, secret, t, secret->derive ? n - 1 : n, &made);
    if (template_refused(rv) && !secret->derive)
        rv = make_unlimited(s, secret, t, n, &made);
    if (rv != CKR_OK)
        return chv_p11_session_fail(s, why);
    *object = made;
    return CHV_OK;
}

enum chv_err chv_p11_secret_copy(struct chv_p11_session *s, CK_OBJECT_HANDLE object, CK_OBJECT_HANDLE *copy,
                                 struct chv_why *why)
{
    CK_BBOOL no = CK_FALSE;
    CK_ATTRIBUTE t[] = {{CKA_TOKEN, &no, sizeof no}};
    CK_OBJECT_HANDLE made = CK_INVALID_HANDLE;
    if (chv_p11_call(s, C_CopyObject, object, t, 1, &made) != CKR_OK)
        return chv_p11_session_fail(s, why);
    *copy = made;
    return CHV_OK;
}

enum chv_err chv_p11_hmac(struct chv_p11_session *s, CK_OBJECT_HANDLE key, const uint8_t *data, size_t len,
                          uint8_t out[32], struct chv_why *why)
{
    static uint8_t nothing;
    CK_MECHANISM mechanism = {CKM_SHA256_HMAC, NULL, 0};
    uint8_t mac[64]; /* more than 32: some tokens cut what does not fit, and say OK */
    CK_ULONG mac_len = sizeof mac;
    enum chv_err err = CHV_OK;
    CK_BYTE_PTR bytes = len == 0 ? &nothing : (CK_BYTE_PTR)(uintptr_t)data;
    if (chv_p11_call_for(s, mechanism.mechanism, C_SignInit, &mechanism, key) != CKR_OK)
        return chv_p11_session_fail(s, why);
    if (chv_p11_call_for(s, mechanism.mechanism, C_Sign, bytes, len, mac, &mac_len) != CKR_OK)
        err = chv_p11_session_fail(s, why);
    else if (mac_len != 32)
        err = chv_fail(why, CHV_ERR_CRYPTO, "%s: C_Sign with CKM_SHA256_HMAC: gave %lu bytes, 32 are right", s->where,
                       mac_len);
    else
        memcpy(out, mac, 32);
    chv_wipe(mac, sizeof mac);
    return err;
}
