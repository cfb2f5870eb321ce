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
            if (chv_p11_rv_lost(s->rv))
                return chv_p11_session_fail(s, t->why);
            if (chv_p11_call(s, C_CopyObject, keys[k], change, 2, &opened) == CKR_OK) {
                (void)s->fn->C_DestroyObject(s->handle, opened);
                return gives_way(t, s->call, openings[i].name);
            }
            if (chv_p11_rv_lost(s->rv))
                return chv_p11_session_fail(s, t->why);
        }
    }
    return CHV_OK;
}

/* Who has the PIN may make it derive, or may not: then it must stand the probe. */
static enum chv_err try_deriving(const struct trial *t)
{
    struct chv_p11_session *s = t->s;
    CK_BBOOL yes = CK_TRUE;
    CK_ATTRIBUTE derive[] = {{CKA_DERIVE, &yes, sizeof yes}}, none[] = {{CKA_ALLOWED_MECHANISMS, NULL, 0}};
    (void)chv_p11_call(s, C_SetAttributeValue, t->key, derive, 1);
    if (!chv_p11_rv_lost(s->rv))
        (void)chv_p11_call(s, C_SetAttributeValue, t->key, none, 1);
    if (chv_p11_rv_lost(s->rv))
        return chv_p11_session_fail(s, t->why);
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
