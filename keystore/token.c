/* SPDX-License-Identifier: Apache-2.0 */
/* The token keystore: its vtable.  Every call is one piece of work that the token's layer may repeat (p11/token.h). */
#include "keystore/token.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "core/hkdf.h"

static struct chv_token_store *store_of(struct chv_keystore *ks)
{
    return (struct chv_token_store *)ks;
}

/* ---- opening ---- */

static void token_close(struct chv_keystore *ks)
{
    struct chv_token_store *store = store_of(ks);
    if (store == NULL)
        return;
    chv_p11_token_close(store->token);
    chv_p11_uri_free(&store->uri);
    chv_backend_close(&store->crypto);
    free(store);
}

static enum chv_err prepare(struct chv_token_store *store, const char *uri, struct chv_why *why)
{
    enum chv_err err = chv_p11_uri_parse(uri, &store->uri, why);
    if (err != CHV_OK)
        return err;
    store->name = store->uri.object[0] != '\0' ? store->uri.object : "chaveiro";
    if (strchr(store->name, ':') != NULL)
        return chv_fail(why, CHV_ERR_CONFIG, "PKCS #11 URI: object= is a name without a colon");
    err = chv_token_rung_find(store->uri.derive, &store->rung, why);
    if (err == CHV_OK)
        err = chv_backend_open("openssl", &store->crypto, why);
    if (err == CHV_OK)
        err = chv_p11_token_open(&store->uri, &store->token, why);
    if (err != CHV_OK)
        return err;
    store->where = chv_p11_token_name(store->token);
    err = chv_p11_token_mechanism(store->token, CKM_SHA256_HMAC, CKF_SIGN, NULL, why);
    if (err == CHV_OK && store->rung == CHV_TOKEN_HKDF)
        err = chv_p11_token_mechanism(store->token, CKM_HKDF_DERIVE, CKF_DERIVE, NULL, why);
    if (err == CHV_OK && store->rung == CHV_TOKEN_SP800_108)
        err = chv_p11_token_mechanism(store->token, CKM_SP800_108_COUNTER_KDF, CKF_DERIVE, NULL, why);
    return err;
}

static enum chv_err token_open(const char *uri, const struct chv_keystore_options *options, struct chv_keystore **ks,
                               struct chv_why *why)
{
    struct chv_token_store *store = calloc(1, sizeof *store);
    if (store == NULL)
        return chv_fail(why, CHV_ERR_MEMORY, "token keystore: out of memory");
    store->base.ops = &chv_keystore_token_ops;
    store->mode = options->mode;
    enum chv_err err = prepare(store, uri, why);
    if (err != CHV_OK) {
        token_close(&store->base);
        return err;
    }
    *ks = &store->base;
    return CHV_OK;
}

static enum chv_err one_is_enough(void *arg, const struct chv_key_info *info)
{
    memcpy(arg, info->label, sizeof info->label);
    return CHV_ERR_EXISTS;
}

/* CREATE: a keystore of this name must not be there.  Its keys are private, so this shows after login only. */
static enum chv_err check_new(struct chv_token_store *store, struct chv_why *why)
{
    char label[CHV_LABEL_MAX + 1] = "";
    enum chv_err err = chv_token_list(store, one_is_enough, label, why);
    if (err == CHV_ERR_EXISTS)
        return chv_fail(why, err,
                        "%s: holds a keystore \"%s\" already (key '%s'): choose another name by object=", store->where,
                        store->name, label);
    return err;
}

static enum chv_err token_unlock(struct chv_keystore *ks, chv_secret_fn secret, void *arg, struct chv_why *why)
{
    struct chv_token_store *store = store_of(ks);
    if (store->unlocked && chv_p11_token_logged_in(store->token))
        return chv_fail(why, CHV_ERR_STATE, "%s: is unlocked already", store->where);
    enum chv_err err = chv_p11_token_login(store->token, secret, arg, why);
    if (err == CHV_OK && store->mode == CHV_KEYSTORE_CREATE && !store->unlocked)
        err = check_new(store, why);
    else if (err == CHV_OK)
        err = chv_token_inspect(store, why);
    store->unlocked = store->unlocked || err == CHV_OK;
    return err;
}

static enum chv_err check_open(const struct chv_token_store *store, struct chv_why *why)
{
    if (!store->unlocked)
        return chv_fail(why, CHV_ERR_STORE_LOCKED, "%s: is locked: unlock it first", store->where);
    return CHV_OK;
}

static enum chv_err check_writable(const struct chv_token_store *store, struct chv_why *why)
{
    if (store->mode == CHV_KEYSTORE_READ)
        return chv_fail(why, CHV_ERR_STATE, "%s: was opened for reading only", store->where);
    return check_open(store, why);
}

/* A token's changes are durable at once. */
static enum chv_err token_commit(struct chv_keystore *ks, struct chv_why *why)
{
    return check_writable(store_of(ks), why);
}

/* ---- work ---- */

/* What a piece of work is given; each uses what it needs. */
struct job {
    struct chv_token_store *store;
    const char *label;
    const uint8_t *in;
    size_t in_len;
    uint8_t *out;
    size_t out_len;
    enum chv_key_use use;
    enum chv_curve curve;
};

static enum chv_err work_derive(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    struct job *job = arg;
    const struct chv_token_entry *key = NULL;
    enum chv_err err = chv_token_key(job->store, s, job->label, CHV_USE_SECRET, &key, why);
    return err != CHV_OK ? err : chv_token_expand(s, key->key, job->store->rung, job->in, job->in_len, job->out, why);
}

static enum chv_err token_derive(struct chv_keystore *ks, const char *label, const uint8_t *info, size_t info_len,
                                 uint8_t out[CHV_SECRET_LEN], struct chv_why *why)
{
    struct job job = {.store = store_of(ks), .label = label, .in = info, .in_len = info_len, .out = out};
    enum chv_err err = check_open(job.store, why);
    return err != CHV_OK ? err : chv_p11_token_run(job.store->token, work_derive, &job, why);
}

/*
 * The second step runs in this process: as a session object in the token the middle key would cost two calls more, and
 * SoftHSM never gives its memory back (doc/tokens.md).
 */
static enum chv_err token_derive2(struct chv_keystore *ks, const char *label, const uint8_t *info1, size_t info1_len,
                                  const uint8_t *info2, size_t info2_len, uint8_t out[CHV_SECRET_LEN],
                                  struct chv_why *why)
{
    struct chv_token_store *store = store_of(ks);
    uint8_t middle[CHV_SECRET_LEN];
    enum chv_err err = token_derive(ks, label, info1, info1_len, middle, why);
    if (err == CHV_OK) {
        err = chv_hkdf_expand(&store->crypto, CHV_HASH_SHA256, middle, sizeof middle, info2, info2_len, out,
                              CHV_SECRET_LEN);
        if (err != CHV_OK)
            err = chv_fail(why, err, "%s: cannot derive from '%s'", store->where, label);
    }
    chv_wipe(middle, sizeof middle);
    return err;
}

/* ---- making and removing ---- */

static unsigned how_many(const struct chv_token_found *f)
{
    return f->secrets + f->private_keys + f->public_keys + f->datas;
}

static enum chv_err check_free(struct job *job, struct chv_p11_session *s, struct chv_why *why)
{
    struct chv_token_found found;
    enum chv_err err = chv_token_find(job->store, s, job->label, &found, why);
    if (err == CHV_OK && how_many(&found) > 0)
        err = chv_fail(why, CHV_ERR_EXISTS, "%s: '%s' is there already", job->store->where, job->label);
    return err;
}

/* Two processes may have made the same label at once, and a token keeps both: ours goes if it is not the only one. */
static enum chv_err confirm(struct job *job, struct chv_p11_session *s, const CK_OBJECT_HANDLE *made, size_t n,
                            struct chv_why *why)
{
    const struct chv_token_entry *entry = NULL;
    enum chv_err err = CHV_OK;
    if (job->use == CHV_USE_SECRET)
        err = chv_token_key(job->store, s, job->label, job->use, &entry, why);
    else
        err = chv_token_pair(job->store, s, job->label, &entry, why);
    if (err == CHV_OK)
        return CHV_OK;
    CK_RV failed = s->rv;
    for (size_t i = 0; i < n; i++)
        (void)s->fn->C_DestroyObject(s->handle, made[i]);
    s->rv = failed;
    chv_token_forget(job->store, job->label);
    return err;
}

static enum chv_err work_secret(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    struct job *job = arg;
    char full[CHV_TOKEN_LABEL_MAX + 1];
    CK_OBJECT_HANDLE made = CK_INVALID_HANDLE;
    chv_token_label(job->store, job->label, full);
    const struct chv_p11_secret secret = {.label = full,
                                          .value = job->in,
                                          .value_len = job->in_len,
                                          .token = true,
                                          .modifiable = job->store->uri.session_copy,
                                          .derive = job->store->rung != CHV_TOKEN_HMAC};
    chv_token_forget(job->store, job->label);
    enum chv_err err = check_free(job, s, why);
    if (err == CHV_OK)
        err = chv_p11_secret_make(s, &secret, &made, why);
    return err != CHV_OK ? err : confirm(job, s, &made, 1, why);
}

static enum chv_err token_import(struct chv_keystore *ks, const char *label, const uint8_t secret[CHV_SECRET_LEN],
                                 struct chv_why *why)
{
    struct job job = {
        .store = store_of(ks), .label = label, .in = secret, .in_len = CHV_SECRET_LEN, .use = CHV_USE_SECRET};
    enum chv_err err = check_writable(job.store, why);
    return err != CHV_OK ? err : chv_p11_token_run(job.store->token, work_secret, &job, why);
}

static enum chv_err token_generate(struct chv_keystore *ks, const char *label, struct chv_why *why)
{
    struct job job = {.store = store_of(ks), .label = label, .use = CHV_USE_SECRET};
    enum chv_err err = check_writable(job.store, why);
    return err != CHV_OK ? err : chv_p11_token_run(job.store->token, work_secret, &job, why);
}

static enum chv_err work_pair(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    struct job *job = arg;
    char full[CHV_TOKEN_LABEL_MAX + 1];
    CK_OBJECT_HANDLE made[2] = {CK_INVALID_HANDLE, CK_INVALID_HANDLE};
    uint8_t point[CHV_DH_PUBLIC_MAX];
    chv_token_label(job->store, job->label, full);
    const struct chv_p11_pair pair = {
        .label = full, .curve = job->curve, .token = true, .sign = job->use == CHV_USE_RECEIPT};
    chv_token_forget(job->store, job->label);
    enum chv_err err = check_free(job, s, why);
    if (err == CHV_OK)
        err = chv_p11_pair_make(s, &pair, &made[0], &made[1], point, why);
    return err != CHV_OK ? err : confirm(job, s, made, 2, why);
}

static enum chv_err token_generate_identity(struct chv_keystore *ks, const char *label, enum chv_key_use use,
                                            enum chv_curve curve, struct chv_why *why)
{
    struct job job = {.store = store_of(ks), .label = label, .use = use, .curve = curve};
    enum chv_err err = check_writable(job.store, why);
    return err != CHV_OK ? err : chv_p11_token_run(job.store->token, work_pair, &job, why);
}

static enum chv_err work_remove(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    struct job *job = arg;
    struct chv_token_found f;
    enum chv_err err = chv_token_find(job->store, s, job->label, &f, why);
    if (err != CHV_OK)
        return err;
    if (how_many(&f) == 0)
        return chv_fail(why, CHV_ERR_NOT_FOUND, "%s: there is nothing called '%s' in it", job->store->where,
                        job->label);
    chv_token_forget(job->store, job->label);
    /* the secret half first: what is left after a failure can be removed again */
    const CK_OBJECT_HANDLE objects[] = {f.secret, f.private_key, f.public_key, f.data};
    for (size_t i = 0; i < sizeof objects / sizeof objects[0]; i++)
        if (objects[i] != CK_INVALID_HANDLE && chv_p11_call(s, C_DestroyObject, objects[i]) != CKR_OK)
            return chv_p11_session_fail(s, why);
    return CHV_OK;
}

static enum chv_err token_remove(struct chv_keystore *ks, const char *label, struct chv_why *why)
{
    struct job job = {.store = store_of(ks), .label = label};
    enum chv_err err = check_writable(job.store, why);
    return err != CHV_OK ? err : chv_p11_token_run(job.store->token, work_remove, &job, why);
}

static enum chv_err token_list(struct chv_keystore *ks, chv_key_fn each, void *arg, struct chv_why *why)
{
    enum chv_err err = check_open(store_of(ks), why);
    return err != CHV_OK ? err : chv_token_list(store_of(ks), each, arg, why);
}

/* ---- data items ---- */

/* As confirm does it for keys. */
static enum chv_err confirm_data(struct job *job, struct chv_p11_session *s, CK_OBJECT_HANDLE made, struct chv_why *why)
{
    struct chv_token_found found;
    enum chv_err err = chv_token_find(job->store, s, job->label, &found, why);
    if (err == CHV_OK)
        return CHV_OK;
    CK_RV failed = s->rv;
    (void)s->fn->C_DestroyObject(s->handle, made);
    s->rv = failed;
    return err;
}

static enum chv_err create_data(struct job *job, struct chv_p11_session *s, struct chv_why *why)
{
    char full[CHV_TOKEN_LABEL_MAX + 1], application[] = "chaveiro";
    CK_OBJECT_CLASS class = CKO_DATA;
    CK_BBOOL yes = CK_TRUE;
    CK_OBJECT_HANDLE made;
    chv_token_label(job->store, job->label, full);
    CK_ATTRIBUTE t[] = {{CKA_CLASS, &class, sizeof class},  {CKA_TOKEN, &yes, sizeof yes},
                        {CKA_PRIVATE, &yes, sizeof yes}, /* not secret, but nobody may change it without the PIN */
                        {CKA_MODIFIABLE, &yes, sizeof yes}, {CKA_APPLICATION, application, strlen(application)},
                        {CKA_LABEL, full, strlen(full)},    {CKA_VALUE, (void *)(uintptr_t)job->in, job->in_len}};
    enum chv_err err = CHV_OK;
    if (chv_p11_call(s, C_CreateObject, t, sizeof t / sizeof t[0], &made) != CKR_OK)
        err = chv_p11_session_fail(s, why);
    else
        err = confirm_data(job, s, made, why);
    if (err == CHV_ERR_UNSUPPORTED)
        err =
            chv_fail(why, err, "%s: the token keeps no data objects (C_CreateObject: %s): use another token or a file",
                     job->store->where, chv_p11_rv_name(s->rv));
    return err;
}

static enum chv_err work_put(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    struct job *job = arg;
    struct chv_token_found f;
    CK_ATTRIBUTE value = {CKA_VALUE, (void *)(uintptr_t)job->in, job->in_len};
    enum chv_err err = chv_token_find(job->store, s, job->label, &f, why);
    if (err != CHV_OK)
        return err;
    if (f.secrets + f.private_keys + f.public_keys > 0)
        return chv_fail(why, CHV_ERR_EXISTS, "%s: '%s' is a key, not a data item", job->store->where, job->label);
    if (f.datas == 0)
        return create_data(job, s, why);
    if (chv_p11_call(s, C_SetAttributeValue, f.data, &value, 1) == CKR_OK) /* one step: never none or two */
        return CHV_OK;
    if (chv_p11_rv_lost(s->rv))
        return chv_p11_session_fail(s, why);
    if (chv_p11_call(s, C_DestroyObject, f.data) != CKR_OK)
        return chv_p11_session_fail(s, why);
    return create_data(job, s, why);
}

static enum chv_err token_data_put(struct chv_keystore *ks, const char *label, const uint8_t *data, size_t len,
                                   struct chv_why *why)
{
    static const uint8_t nothing;
    struct job job = {.store = store_of(ks), .label = label, .in = len > 0 ? data : &nothing, .in_len = len};
    enum chv_err err = check_writable(job.store, why);
    return err != CHV_OK ? err : chv_p11_token_run(job.store->token, work_put, &job, why);
}

static enum chv_err work_get(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    struct job *job = arg;
    struct chv_token_found f;
    uint8_t value[CHV_KEYSTORE_DATA_MAX];
    size_t len = sizeof value;
    enum chv_err err = chv_token_find(job->store, s, job->label, &f, why);
    if (err != CHV_OK)
        return err;
    if (f.datas == 0)
        return chv_fail(why, CHV_ERR_NOT_FOUND, "%s: there is no data item '%s' in it", job->store->where, job->label);
    err = chv_p11_get(s, f.data, CKA_VALUE, value, &len, why);
    if (err != CHV_OK)
        return err;
    if (len > job->out_len)
        return chv_fail(why, CHV_ERR_SPACE, "%s: data item '%s' has %zu bytes, there is room for %zu",
                        job->store->where, job->label, len, job->out_len);
    if (len > 0)
        memcpy(job->out, value, len);
    job->in_len = len;
    return CHV_OK;
}

static enum chv_err token_data_get(struct chv_keystore *ks, const char *label, uint8_t *out, size_t *len,
                                   struct chv_why *why)
{
    struct job job = {.store = store_of(ks), .label = label, .out = out, .out_len = *len};
    enum chv_err err = check_open(job.store, why);
    if (err == CHV_OK)
        err = chv_p11_token_run(job.store->token, work_get, &job, why);
    if (err == CHV_OK)
        *len = job.in_len;
    return err;
}

/* ---- key pairs ---- */

static enum chv_err work_public(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    struct job *job = arg;
    const struct chv_token_entry *pair = NULL;
    enum chv_err err = chv_token_pair(job->store, s, job->label, &pair, why);
    return err != CHV_OK ? err : chv_p11_pair_public(s, pair->public_key, &job->curve, job->out, why);
}

static enum chv_err token_public_key(struct chv_keystore *ks, const char *label, enum chv_curve *curve,
                                     uint8_t out[CHV_DH_PUBLIC_MAX], struct chv_why *why)
{
    struct job job = {.store = store_of(ks), .label = label, .out = out};
    enum chv_err err = check_open(job.store, why);
    if (err == CHV_OK)
        err = chv_p11_token_run(job.store->token, work_public, &job, why);
    if (err == CHV_OK)
        *curve = job.curve;
    return err;
}

static enum chv_err work_dh(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    struct job *job = arg;
    const struct chv_token_entry *pair = NULL;
    enum chv_err err = chv_token_key(job->store, s, job->label, CHV_USE_IDENTITY, &pair, why);
    return err != CHV_OK ? err : chv_p11_ecdh(s, pair->key, pair->curve, job->in, job->out, why);
}

static enum chv_err token_dh(struct chv_keystore *ks, const char *label, const uint8_t *peer_public,
                             uint8_t out[CHV_KEY_LEN], struct chv_why *why)
{
    struct job job = {.store = store_of(ks), .label = label, .in = peer_public, .out = out};
    enum chv_err err = check_open(job.store, why);
    return err != CHV_OK ? err : chv_p11_token_run(job.store->token, work_dh, &job, why);
}

static enum chv_err work_sign(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    struct job *job = arg;
    const struct chv_token_entry *pair = NULL;
    enum chv_err err = chv_token_key(job->store, s, job->label, CHV_USE_RECEIPT, &pair, why);
    return err != CHV_OK ? err : chv_p11_ecdsa(s, pair->key, job->in, job->in_len, job->out, &job->out_len, why);
}

static enum chv_err token_sign(struct chv_keystore *ks, const char *label, const uint8_t *message, size_t len,
                               uint8_t sig[CHV_SIGNATURE_MAX], size_t *sig_len, struct chv_why *why)
{
    struct job job = {.store = store_of(ks), .label = label, .in = message, .in_len = len, .out = sig};
    enum chv_err err = check_open(job.store, why);
    if (err == CHV_OK)
        err = chv_p11_token_run(job.store->token, work_sign, &job, why);
    if (err == CHV_OK)
        *sig_len = job.out_len;
    return err;
}

const struct chv_keystore_ops chv_keystore_token_ops = {
    .abi = CHV_KEYSTORE_ABI,
    .scheme = "pkcs11",
    .description = "PKCS #11 token, by RFC 7512 URI",
    .open = token_open,
    .close = token_close,
    .unlock = token_unlock,
    .commit = token_commit,
    .derive = token_derive,
    .derive2 = token_derive2,
    .generate = token_generate,
    .import = token_import,
    .list = token_list,
    .remove = token_remove,
    .data_put = token_data_put,
    .data_get = token_data_get,
    .generate_identity = token_generate_identity,
    .public_key = token_public_key,
    .dh = token_dh,
    .sign = token_sign,
};
