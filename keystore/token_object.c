/* SPDX-License-Identifier: Apache-2.0 */
/* Labels, and the keys behind them: found once, checked, their handles kept. */
#include "keystore/token.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "core/hkdf.h"
#include "p11/observe.h"

void chv_token_label(const struct chv_token_store *s, const char *label, char out[CHV_TOKEN_LABEL_MAX + 1])
{
    (void)snprintf(out, CHV_TOKEN_LABEL_MAX + 1, "%s:%s", s->name, label);
}

/* ---- finding ---- */

static enum chv_err note_object(struct chv_p11_session *s, CK_OBJECT_HANDLE object, void *arg, struct chv_why *why)
{
    struct chv_token_found *found = arg;
    CK_OBJECT_CLASS class = CKO_DATA;
    enum chv_err err = chv_p11_get_ulong(s, object, CKA_CLASS, &class, why);
    if (err != CHV_OK)
        return err;
    switch (class) {
    case CKO_SECRET_KEY:
        found->secret = object;
        found->secrets++;
        break;
    case CKO_PRIVATE_KEY:
        found->private_key = object;
        found->private_keys++;
        break;
    case CKO_PUBLIC_KEY:
        found->public_key = object;
        found->public_keys++;
        break;
    case CKO_DATA:
        found->data = object;
        found->datas++;
        break;
    default: /* a certificate of that name is nothing of ours */
        break;
    }
    return CHV_OK;
}

enum chv_err chv_token_find(struct chv_token_store *store, struct chv_p11_session *s, const char *label,
                            struct chv_token_found *found, struct chv_why *why)
{
    char full[CHV_TOKEN_LABEL_MAX + 1];
    CK_BBOOL yes = CK_TRUE; /* session copies have the label too */
    chv_token_label(store, label, full);
    CK_ATTRIBUTE match[] = {{CKA_TOKEN, &yes, sizeof yes}, {CKA_LABEL, full, strlen(full)}};
    *found = (struct chv_token_found){.secret = CK_INVALID_HANDLE};
    enum chv_err err = chv_p11_find_each(s, match, 2, note_object, found, why);
    if (err != CHV_OK)
        return err;
    if (found->secrets + found->private_keys + found->datas > 1 || found->public_keys > 1)
        return chv_fail(why, CHV_ERR_KEY,
                        "%s: there are several objects called '%s': remove those that are not yours with the token's "
                        "own tools",
                        store->where, full);
    return CHV_OK;
}

/* ---- the cache ---- */

static uint64_t now_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static struct chv_token_entry *cached(struct chv_token_store *store, const char *label)
{
    for (size_t i = 0; i < CHV_TOKEN_CACHE; i++)
        if (store->cache[i].label[0] != '\0' && strcmp(store->cache[i].label, label) == 0)
            return &store->cache[i];
    return NULL;
}

void chv_token_forget(struct chv_token_store *store, const char *label)
{
    struct chv_token_entry *e = cached(store, label);
    if (e != NULL)
        e->label[0] = '\0';
}

static struct chv_token_entry *keep(struct chv_token_store *store, const struct chv_token_entry *entry)
{
    struct chv_token_entry *e = cached(store, entry->label);
    if (e == NULL) {
        e = &store->cache[store->oldest];
        store->oldest = (store->oldest + 1) % CHV_TOKEN_CACHE;
    }
    *e = *entry;
    return e;
}

/* ---- keys ---- */

#define RULE(name, want)                                                                                               \
    {                                                                                                                  \
        name, #name, want                                                                                              \
    }
static const struct chv_p11_rule identity_rules[] = {
    RULE(CKA_PRIVATE, true), RULE(CKA_SENSITIVE, true), RULE(CKA_EXTRACTABLE, false), RULE(CKA_DERIVE, true),
    RULE(CKA_SIGN, false),   RULE(CKA_DECRYPT, false),  RULE(CKA_UNWRAP, false),
};
static const struct chv_p11_rule receipt_rules[] = {
    RULE(CKA_PRIVATE, true), RULE(CKA_SENSITIVE, true), RULE(CKA_EXTRACTABLE, false), RULE(CKA_SIGN, true),
    RULE(CKA_DERIVE, false), RULE(CKA_DECRYPT, false),  RULE(CKA_UNWRAP, false),
};
static const struct chv_p11_rule deriving_rule[] = {RULE(CKA_DERIVE, true)};
#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

/* What the key may be used by, where the token keeps that. */
static const CK_MECHANISM_TYPE rung_mechanisms[][2] = {
    [CHV_TOKEN_HMAC] = {CKM_SHA256_HMAC, CKM_SHA256_HMAC},
    [CHV_TOKEN_HKDF] = {CKM_SHA256_HMAC, CKM_HKDF_DERIVE},
    [CHV_TOKEN_SP800_108] = {CKM_SHA256_HMAC, CKM_SP800_108_COUNTER_KDF},
};

static enum chv_err check_secret(const struct chv_token_store *store, struct chv_p11_session *s,
                                 CK_OBJECT_HANDLE object, const char *label, struct chv_why *why)
{
    struct chv_p11_rule rules[16];
    size_t n = 0;
    CK_KEY_TYPE type = CKK_GENERIC_SECRET;
    enum chv_err err = chv_p11_get_ulong(s, object, CKA_KEY_TYPE, &type, why);
    if (err == CHV_OK && type != CKK_GENERIC_SECRET && type != CKK_SHA256_HMAC)
        err = chv_fail(why, CHV_ERR_KEY, "%s: key '%s' is refused: its type is 0x%lx, no secret for HMAC", store->where,
                       label, type);
    for (size_t i = 0; i < chv_p11_secret_rule_count && n < COUNT(rules); i++) {
        CK_ATTRIBUTE_TYPE attribute = chv_p11_secret_rules[i].type;
        if (attribute == CKA_DERIVE && store->rung != CHV_TOKEN_HMAC)
            continue; /* the other way round, below */
        if (attribute == CKA_VERIFY && type == CKK_SHA256_HMAC)
            continue; /* a TPM's tool makes such keys with it; who may sign can verify anyway */
        rules[n++] = chv_p11_secret_rules[i];
    }
    if (err == CHV_OK)
        err = chv_p11_check(s, object, label, rules, n, why);
    if (err == CHV_OK && store->rung != CHV_TOKEN_HMAC)
        err = chv_p11_check(s, object, label, deriving_rule, COUNT(deriving_rule), why);
    if (err == CHV_OK)
        err = chv_p11_check_allowed(s, object, label, rung_mechanisms[store->rung], 2, why);
    return err;
}

static enum chv_err check_pair(struct chv_p11_session *s, CK_OBJECT_HANDLE private_key, const char *label, bool *sign,
                               struct chv_why *why)
{
    CK_BBOOL signs = CK_FALSE;
    size_t len = sizeof signs;
    enum chv_err err = chv_p11_get(s, private_key, CKA_SIGN, &signs, &len, why);
    if (err != CHV_OK)
        return err;
    *sign = signs != CK_FALSE;
    return *sign ? chv_p11_check(s, private_key, label, receipt_rules, COUNT(receipt_rules), why)
                 : chv_p11_check(s, private_key, label, identity_rules, COUNT(identity_rules), why);
}

/*
 * A copy in the session is faster.  Where the token or the key forbids it, or the copy is less protected, the key itself
 * serves, and that is told once.
 */
static enum chv_err copy_secret(struct chv_token_store *store, struct chv_p11_session *s, struct chv_token_entry *entry,
                                struct chv_why *why)
{
    CK_OBJECT_HANDLE copy = CK_INVALID_HANDLE;
    struct chv_why detail = {""};
    char text[sizeof detail.text + 128];
    enum chv_err err = chv_p11_secret_copy(s, entry->key, &copy, &detail);
    if (err == CHV_OK) {
        err = check_secret(store, s, copy, entry->label, &detail);
        if (err == CHV_OK && store->rung != CHV_TOKEN_HMAC)
            err = chv_token_probe(s, copy, entry->label, NULL, &detail);
        if (err == CHV_OK) {
            entry->original = entry->key;
            entry->looked = now_ms();
            entry->key = copy;
            return CHV_OK;
        }
        (void)s->fn->C_DestroyObject(s->handle, copy);
    }
    if (chv_p11_rv_session_dead(s->rv))
        return chv_p11_session_fail(s, why);
    s->rv = CKR_OK;
    if (!store->copy_told) {
        (void)snprintf(text, sizeof text, "no session copy of key '%s', which serves itself and is slower: %s",
                       entry->label, detail.text);
        chv_p11_tell("chaveiro-session-copy=yes", text);
    }
    store->copy_told = true;
    return CHV_OK;
}

/* Above HMAC the key must derive, so it is looked at twice as hard. */
static enum chv_err load_secret(struct chv_token_store *store, struct chv_p11_session *s,
                                const struct chv_token_found *found, struct chv_token_entry *entry, struct chv_why *why)
{
    enum chv_err err = check_secret(store, s, found->secret, entry->label, why);
    if (err == CHV_OK && store->rung != CHV_TOKEN_HMAC)
        err = chv_token_probe(s, found->secret, entry->label, NULL, why);
    if (err != CHV_OK)
        return err;
    entry->use = CHV_USE_SECRET;
    entry->key = found->secret;
    return store->uri.session_copy ? copy_secret(store, s, entry, why) : CHV_OK;
}

static enum chv_err load_pair(struct chv_token_store *store, struct chv_p11_session *s,
                              const struct chv_token_found *found, struct chv_token_entry *entry, struct chv_why *why)
{
    bool sign = false;
    CK_OBJECT_HANDLE params_of = found->public_keys > 0 ? found->public_key : found->private_key;
    enum chv_err err = check_pair(s, found->private_key, entry->label, &sign, why);
    if (err == CHV_OK)
        err = chv_p11_pair_curve(s, params_of, &entry->curve, why);
    if (err == CHV_OK && sign && entry->curve != CHV_CURVE_P256)
        err = chv_fail(why, CHV_ERR_KEY, "%s: key '%s' is refused: a receipt key is on P-256", store->where,
                       entry->label);
    entry->use = sign ? CHV_USE_RECEIPT : CHV_USE_IDENTITY;
    entry->key = found->private_key;
    entry->public_key = found->public_keys > 0 ? found->public_key : CK_INVALID_HANDLE;
    return err;
}

/*
 * Handles are found again by label when a token was lost.  One that was initialised anew meanwhile may have a key of
 * that label too, and the same PIN: what it derives would be good for nobody.
 */
static enum chv_err check_same(const struct chv_token_store *store, struct chv_p11_session *s,
                               const struct chv_token_entry *known, struct chv_token_entry *fresh, struct chv_why *why)
{
    uint8_t info[CHV_INFO_MAX];
    size_t len;
    enum chv_err err = chv_info_check(info, &len);
    if (err == CHV_OK)
        err = chv_token_expand(s, fresh->key, store->rung, info, len, fresh->check, why);
    if (err != CHV_OK || known == NULL || known->use != CHV_USE_SECRET ||
        chv_equal(known->check, fresh->check, sizeof fresh->check))
        return err;
    return chv_fail(why, CHV_ERR_KEY,
                    "%s: key '%s' is another one than before: the token was initialised again, or the key made anew, "
                    "while it was in use; bring the old one back, or restart if this is meant",
                    store->where, fresh->label);
}

/*
 * A copy in the session outlives its original, and the token: who takes the token away, or initialises it, means that no
 * more is derived.  So the original derives now and then; not at every call, which would cost what the copy saves.  That
 * an object is there does not suffice: its handle may be another's by now.
 */
static enum chv_err check_original(const struct chv_token_store *store, struct chv_p11_session *s,
                                   struct chv_token_entry *known, struct chv_why *why)
{
    uint64_t now = now_ms();
    struct chv_token_entry original = *known;
    if (known->original == CK_INVALID_HANDLE || now - known->looked < CHV_TOKEN_LOOK_MS)
        return CHV_OK;
    original.key = known->original;
    enum chv_err err = check_same(store, s, known, &original, why);
    if (err == CHV_OK)
        known->looked = now;
    return err;
}

/* A copy that nobody will use any more: sessions, and what was made in them, live long. */
static void drop_copy(struct chv_p11_session *s, const struct chv_token_entry *entry)
{
    if (entry->original != CK_INVALID_HANDLE && entry->pool == s->pool)
        (void)s->fn->C_DestroyObject(s->handle, entry->key);
}

/* Whatever key the label names. */
static enum chv_err any_key(struct chv_token_store *store, struct chv_p11_session *s, const char *label,
                            const struct chv_token_entry **entry, struct chv_why *why)
{
    struct chv_token_found found;
    struct chv_token_entry *known = cached(store, label);
    if (known != NULL && known->generation == s->generation) {
        *entry = known;
        return check_original(store, s, known, why);
    }
    struct chv_token_entry fresh = {.generation = s->generation, .pool = s->pool};
    (void)snprintf(fresh.label, sizeof fresh.label, "%s", label);
    enum chv_err err = chv_token_find(store, s, label, &found, why);
    if (err != CHV_OK)
        return err;
    if (found.secrets + found.private_keys == 0) {
        char what[CHV_LABEL_MAX + 16];
        (void)snprintf(what, sizeof what, "key '%s'", label);
        return known != NULL ? chv_p11_session_missing(s, what, why)
                             : chv_fail(why, CHV_ERR_NOT_FOUND, "%s: there is no key '%s:%s' in it", store->where,
                                        store->name, label);
    }
    err = found.secrets > 0 ? load_secret(store, s, &found, &fresh, why) : load_pair(store, s, &found, &fresh, why);
    if (err == CHV_OK && fresh.use == CHV_USE_SECRET)
        err = check_same(store, s, known, &fresh, why);
    if (err != CHV_OK) {
        CK_RV failed = s->rv;
        drop_copy(s, &fresh);
        s->rv = failed;
        return err;
    }
    if (known != NULL)
        drop_copy(s, known);
    *entry = keep(store, &fresh);
    return CHV_OK;
}

enum chv_err chv_token_key(struct chv_token_store *store, struct chv_p11_session *s, const char *label,
                           enum chv_key_use use, const struct chv_token_entry **entry, struct chv_why *why)
{
    static const char *const uses[] = {"a secret", "an identity key", "a receipt key"};
    const struct chv_token_entry *found = NULL;
    enum chv_err err = any_key(store, s, label, &found, why);
    if (err != CHV_OK || found == NULL)
        return err;
    if (found->use != use)
        return chv_fail(why, CHV_ERR_UNSUPPORTED, "%s: '%s' is %s, wanted was %s", store->where, label,
                        uses[found->use], uses[use]);
    *entry = found;
    return CHV_OK;
}

enum chv_err chv_token_pair(struct chv_token_store *store, struct chv_p11_session *s, const char *label,
                            const struct chv_token_entry **entry, struct chv_why *why)
{
    const struct chv_token_entry *found = NULL;
    enum chv_err err = any_key(store, s, label, &found, why);
    if (err != CHV_OK || found == NULL)
        return err;
    if (found->use == CHV_USE_SECRET)
        return chv_fail(why, CHV_ERR_UNSUPPORTED, "%s: '%s' is a secret: it has no public key", store->where, label);
    if (found->public_key == CK_INVALID_HANDLE)
        return chv_fail(why, CHV_ERR_KEY, "%s: the public half of key pair '%s' is not in it", store->where, label);
    *entry = found;
    return CHV_OK;
}

/* ---- listing ---- */

struct listing {
    struct chv_token_store *store;
    bool pairs;
    struct chv_key_info *infos;
    size_t count, room;
};

static enum chv_err add_info(struct listing *l, const struct chv_key_info *info, struct chv_why *why)
{
    if (l->count == l->room) {
        size_t room = l->room * 2 + 8;
        struct chv_key_info *larger = realloc(l->infos, room * sizeof *larger);
        if (larger == NULL)
            return chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", l->store->where);
        l->infos = larger;
        l->room = room;
    }
    l->infos[l->count++] = *info;
    return CHV_OK;
}

/* The public half says the curve: SoftHSM does not give it for every private one. */
static enum chv_err describe_pair(struct chv_p11_session *s, struct chv_token_store *store, CK_OBJECT_HANDLE object,
                                  struct chv_key_info *info, struct chv_why *why)
{
    struct chv_token_found found;
    CK_BBOOL sign = CK_FALSE;
    size_t len = sizeof sign;
    enum chv_err err = chv_p11_get(s, object, CKA_SIGN, &sign, &len, why);
    if (err == CHV_OK)
        err = chv_token_find(store, s, info->label, &found, why);
    if (err == CHV_OK)
        err = chv_p11_pair_curve(s, found.public_keys > 0 ? found.public_key : object, &info->curve, why);
    info->use = sign ? CHV_USE_RECEIPT : CHV_USE_IDENTITY;
    return err;
}

/* The label of an object of this keystore; "" for a stranger. */
static enum chv_err own_label(const struct chv_token_store *store, struct chv_p11_session *s, CK_OBJECT_HANDLE object,
                              char label[CHV_LABEL_MAX + 1], struct chv_why *why)
{
    char full[CHV_TOKEN_LABEL_MAX + 1];
    size_t len = sizeof full - 1, prefix = strlen(store->name);
    enum chv_err err = chv_p11_get(s, object, CKA_LABEL, full, &len, why);
    label[0] = '\0';
    if (err == CHV_ERR_SPACE || err == CHV_ERR_NOT_FOUND) { /* a stranger's */
        s->rv = CKR_OK;
        return CHV_OK;
    }
    if (err != CHV_OK)
        return err;
    if (len <= prefix + 1 || memcmp(full, store->name, prefix) != 0 || full[prefix] != ':' ||
        len - prefix - 1 > CHV_LABEL_MAX || memchr(full, '\0', len) != NULL)
        return CHV_OK;
    memcpy(label, full + prefix + 1, len - prefix - 1);
    label[len - prefix - 1] = '\0';
    return CHV_OK;
}

static enum chv_err note_info(struct chv_p11_session *s, CK_OBJECT_HANDLE object, void *arg, struct chv_why *why)
{
    struct listing *l = arg;
    struct chv_key_info info = {.use = CHV_USE_SECRET};
    enum chv_err err = own_label(l->store, s, object, info.label, why);
    if (err != CHV_OK || info.label[0] == '\0')
        return err;
    if (l->pairs)
        err = describe_pair(s, l->store, object, &info, why);
    return err == CHV_OK ? add_info(l, &info, why) : err;
}

static enum chv_err work_list(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    struct listing *l = arg;
    CK_BBOOL yes = CK_TRUE;
    CK_OBJECT_CLASS classes[] = {CKO_SECRET_KEY, CKO_PRIVATE_KEY};
    enum chv_err err = CHV_OK;
    l->count = 0; /* it may be another attempt */
    for (size_t i = 0; i < COUNT(classes) && err == CHV_OK; i++) {
        CK_ATTRIBUTE match[] = {{CKA_TOKEN, &yes, sizeof yes}, {CKA_CLASS, &classes[i], sizeof classes[i]}};
        l->pairs = classes[i] == CKO_PRIVATE_KEY;
        err = chv_p11_find_each(s, match, COUNT(match), note_info, l, why);
    }
    return err;
}

static int by_label(const void *a, const void *b)
{
    return strcmp(((const struct chv_key_info *)a)->label, ((const struct chv_key_info *)b)->label);
}

enum chv_err chv_token_list(struct chv_token_store *store, chv_key_fn each, void *arg, struct chv_why *why)
{
    struct listing l = {.store = store};
    enum chv_err err = chv_p11_token_run(store->token, work_list, &l, why);
    if (err == CHV_OK && l.count > 0)
        qsort(l.infos, l.count, sizeof *l.infos, by_label);
    for (size_t i = 0; err == CHV_OK && i < l.count; i++)
        err = each(arg, &l.infos[i]);
    free(l.infos);
    return err;
}

/* ---- all of them, when the keystore is opened ---- */

static enum chv_err inspect_object(struct chv_p11_session *s, CK_OBJECT_HANDLE object, void *arg, struct chv_why *why)
{
    struct chv_token_store *store = arg;
    char label[CHV_LABEL_MAX + 1];
    CK_OBJECT_CLASS class = CKO_DATA;
    bool sign;
    const struct chv_token_entry *entry;
    enum chv_err err = own_label(store, s, object, label, why);
    if (err != CHV_OK || label[0] == '\0')
        return err;
    err = chv_p11_get_ulong(s, object, CKA_CLASS, &class, why);
    if (err == CHV_OK && class == CKO_PRIVATE_KEY)
        err = check_pair(s, object, label, &sign, why);
    else if (err == CHV_OK && class == CKO_SECRET_KEY && store->rung == CHV_TOKEN_HMAC)
        err = check_secret(store, s, object, label, why);
    else if (err == CHV_OK && class == CKO_SECRET_KEY)
        err = any_key(store, s, label, &entry, why); /* and the probe; its answer is kept with the handle */
    return err;
}

static enum chv_err work_inspect(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    CK_BBOOL yes = CK_TRUE;
    const CK_ATTRIBUTE match[] = {{CKA_TOKEN, &yes, sizeof yes}};
    return chv_p11_find_each(s, match, COUNT(match), inspect_object, arg, why);
}

enum chv_err chv_token_inspect(struct chv_token_store *store, struct chv_why *why)
{
    return chv_p11_token_run(store->token, work_inspect, store, why);
}
