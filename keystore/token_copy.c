/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a key that can be copied to the session is as safe in a token as one that cannot. */
#include "keystore/token_copy.h"

#include "keystore/token.h"

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

struct trial {
    struct chv_p11_session *s;
    CK_OBJECT_HANDLE key, copy;
    struct chv_why *why;
};

/* What would open the key, or its copy, to others: true is never wanted, or false (PKCS #11 2.40, 4.4 and 4.10). */
static const struct {
    CK_ATTRIBUTE_TYPE type;
    const char *name;
    CK_BBOOL value;
} openings[] = {
    {CKA_SENSITIVE, "CKA_SENSITIVE", CK_FALSE},
    {CKA_EXTRACTABLE, "CKA_EXTRACTABLE", CK_TRUE},
    {CKA_PRIVATE, "CKA_PRIVATE", CK_FALSE},
};

/* The answers by which a token says that an attribute stays as it is (PKCS #11 2.40, 5.1); any other proves nothing. */
static bool refused(CK_RV rv)
{
    return rv == CKR_ATTRIBUTE_READ_ONLY || rv == CKR_ATTRIBUTE_VALUE_INVALID || rv == CKR_TEMPLATE_INCONSISTENT ||
           rv == CKR_ACTION_PROHIBITED || rv == CKR_FUNCTION_NOT_SUPPORTED;
}

static enum chv_err no_proof(const struct trial *t)
{
    struct chv_why detail = {""};
    enum chv_err err = chv_p11_session_fail(t->s, &detail);
    return chv_fail(t->why, err, "%s; so nothing shows that a copy is as safe as the key", detail.text);
}

static enum chv_err gives_way(const struct trial *t, const char *call, const char *name)
{
    return chv_fail(t->why, CHV_ERR_KEY, "%s: %s changes %s of a key that is CKA_MODIFIABLE", t->s->where, call, name);
}

/* An attribute that protects a key goes one way only. */
static enum chv_err try_openings(const struct trial *t)
{
    struct chv_p11_session *s = t->s;
    for (size_t i = 0; i < COUNT(openings); i++) {
        CK_BBOOL value = openings[i].value, no = CK_FALSE;
        CK_ATTRIBUTE change[] = {{openings[i].type, &value, sizeof value}, {CKA_TOKEN, &no, sizeof no}};
        const CK_OBJECT_HANDLE keys[] = {t->key, t->copy};
        for (size_t k = 0; k < COUNT(keys); k++) {
            CK_OBJECT_HANDLE opened = CK_INVALID_HANDLE;
            if (chv_p11_call(s, C_SetAttributeValue, keys[k], change, 1) == CKR_OK)
                return gives_way(t, s->call, openings[i].name);
            if (!refused(s->rv))
                return no_proof(t);
            if (chv_p11_call(s, C_CopyObject, keys[k], change, 2, &opened) == CKR_OK) {
                (void)s->fn->C_DestroyObject(s->handle, opened);
                return gives_way(t, s->call, openings[i].name);
            }
            if (!refused(s->rv))
                return no_proof(t);
        }
    }
    return CHV_OK;
}

/* Who has the PIN may make a copy that derives, or may not: then it must stand the probe. */
static enum chv_err try_deriving_copy(const struct trial *t)
{
    struct chv_p11_session *s = t->s;
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_ATTRIBUTE change[] = {{CKA_DERIVE, &yes, sizeof yes}, {CKA_TOKEN, &no, sizeof no}};
    CK_OBJECT_HANDLE copy = CK_INVALID_HANDLE;
    if (chv_p11_call(s, C_CopyObject, t->key, change, COUNT(change), &copy) != CKR_OK)
        return refused(s->rv) ? CHV_OK : no_proof(t);
    enum chv_err err = chv_token_probe(s, copy, "trial", NULL, t->why);
    (void)s->fn->C_DestroyObject(s->handle, copy);
    return err;
}

/* The same by a change of the key itself. */
static enum chv_err try_deriving(const struct trial *t)
{
    struct chv_p11_session *s = t->s;
    CK_BBOOL yes = CK_TRUE;
    CK_ATTRIBUTE changes[] = {{CKA_DERIVE, &yes, sizeof yes}, {CKA_ALLOWED_MECHANISMS, NULL, 0}};
    for (size_t i = 0; i < COUNT(changes); i++)
        if (chv_p11_call(s, C_SetAttributeValue, t->key, &changes[i], 1) != CKR_OK && !refused(s->rv) &&
            s->rv != CKR_ATTRIBUTE_TYPE_INVALID) /* a token that has no CKA_ALLOWED_MECHANISMS */
            return no_proof(t);
    return chv_token_probe(s, t->key, "trial", NULL, t->why);
}

static enum chv_err work_trial(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    (void)arg;
    const struct chv_p11_secret wanted = {.modifiable = true};
    struct trial t = {.s = s, .why = why};
    enum chv_err err = chv_p11_secret_make(s, &wanted, &t.key, why);
    if (err != CHV_OK)
        return err;
    err = chv_p11_secret_copy(s, t.key, &t.copy, why);
    if (err == CHV_OK)
        err = chv_p11_check(s, t.copy, "trial", chv_p11_secret_rules, chv_p11_secret_rule_count, why);
    if (err == CHV_OK)
        err = try_openings(&t);
    if (err == CHV_OK)
        err = try_deriving_copy(&t);
    if (err == CHV_OK)
        err = try_deriving(&t);
    const CK_OBJECT_HANDLE made[] = {t.copy, t.key};
    for (size_t i = 0; i < COUNT(made); i++)
        if (made[i] != CK_INVALID_HANDLE)
            (void)s->fn->C_DestroyObject(s->handle, made[i]);
    return err;
}

enum chv_err chv_token_copy_trial(struct chv_p11_token *token, struct chv_why *why)
{
    return chv_p11_token_run(token, work_trial, NULL, why);
}
