/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/provision.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "core/hkdf.h"
#include "tools/identity.h"
#include "tools/backup.h"

static const char provision_master[] = "master:";

enum { PROVISION_LOCK_SECONDS = 10 };

enum chv_err chv_provision_open(const struct chv_provision_store *store, enum chv_keystore_mode mode,
                                struct chv_keystore **ks, struct chv_why *why)
{
    const struct chv_keystore_options options = {
        .mode = mode, .lock_seconds = PROVISION_LOCK_SECONDS, .scrypt_n = store->scrypt_n};
    struct chv_keystore *opened = NULL;
    enum chv_err err = chv_keystore_open(store->uri, &options, &opened, why);
    if (err == CHV_OK)
        err = chv_keystore_unlock(opened, store->secret, store->secret_arg, why);
    if (err != CHV_OK) {
        chv_keystore_close(opened);
        return err;
    }
    *ks = opened;
    return CHV_OK;
}

/* What is there already is left alone: a token that cannot change an item takes it out and makes it anew. */
static enum chv_err provision_put(struct chv_keystore *ks, const char *label, const uint8_t *data, size_t len,
                                  struct chv_why *why)
{
    uint8_t there[CHV_KEYSTORE_DATA_MAX];
    size_t there_len = sizeof there;
    if (chv_keystore_data_get(ks, label, there, &there_len, NULL) == CHV_OK && there_len == len &&
        memcmp(there, data, len) == 0)
        return CHV_OK;
    return chv_keystore_data_put(ks, label, data, len, why);
}

static enum chv_err provision_put_text(struct chv_keystore *ks, const char *label, const char *text,
                                       struct chv_why *why)
{
    return provision_put(ks, label, (const uint8_t *)text, strlen(text), why);
}

enum chv_err chv_provision_server(const struct chv_provision_store *store, const char *server, const char *address,
                                  const struct chv_backup *backup, struct chv_keystore **ks, struct chv_why *why)
{
    struct chv_keystore *made = NULL;
    bool generated = false; /* else there may be another's */
    enum chv_err err = CHV_OK;
    if (!chv_server_name_valid(server))
        return chv_fail(why, CHV_ERR_ARGUMENT, "bad server name '%.80s': 1 to %d letters, digits, '.', '_' and '-'",
                        server, CHV_SERVER_NAME_MAX);
    if (address != NULL)
        err = chv_provision_address(address, why);
    if (err == CHV_OK)
        err = chv_provision_open(store, CHV_KEYSTORE_CREATE, &made, why);
    if (err == CHV_OK)
        err = backup != NULL ? chv_backup_import(backup, made, why) : chv_keystore_generate(made, "master:1", why);
    generated = err == CHV_OK;
    if (err == CHV_OK)
        err = provision_put_text(made, "server", server, why);
    if (err == CHV_OK && address != NULL)
        err = provision_put_text(made, "address", address, why);
    if (err != CHV_OK) {
        if (generated)
            chv_provision_unmake(made);
        chv_keystore_close(made);
        return err;
    }
    *ks = made;
    return CHV_OK;
}

static void provision_remove(struct chv_keystore *ks, const char *const *labels, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        enum chv_err err = chv_keystore_remove(ks, labels[i], NULL);
        (void)err; /* what was not put in is not there */
    }
}

void chv_provision_unmake(struct chv_keystore *ks)
{
    static const char *const labels[] = {"master:1", "identity", "server", "address", "backup"};
    provision_remove(ks, labels, sizeof labels / sizeof labels[0]);
}

/* --- reading -------------------------------------------------------------------------------------------------------
 */

struct provision_list {
    uint32_t *epochs;
    size_t count;
};

static enum chv_err provision_on_key(void *arg, const struct chv_key_info *info)
{
    struct provision_list *list = arg;
    char *end = NULL;
    const size_t prefix = sizeof provision_master - 1;
    if (info->use != CHV_USE_SECRET || strncmp(info->label, provision_master, prefix) != 0)
        return CHV_OK;
    unsigned long long epoch = strtoull(info->label + prefix, &end, 10);
    if (*end != 0 || epoch == 0 || epoch > UINT32_MAX)
        return CHV_OK;
    if (list->count == CHV_PROVISION_EPOCHS)
        return CHV_ERR_SPACE;
    list->epochs[list->count++] = (uint32_t)epoch;
    return CHV_OK;
}

static int provision_compare(const void *a, const void *b)
{
    const uint32_t *x = a;
    const uint32_t *y = b;
    return (*x > *y) - (*x < *y);
}

enum chv_err chv_provision_epochs(struct chv_keystore *ks, uint32_t epochs[CHV_PROVISION_EPOCHS], size_t *count,
                                  struct chv_why *why)
{
    struct provision_list list = {epochs, 0};
    enum chv_err err = chv_keystore_list(ks, provision_on_key, &list, why);
    if (err == CHV_ERR_SPACE)
        return chv_fail(why, err, "the keystore has more than %d masters", CHV_PROVISION_EPOCHS);
    if (err != CHV_OK)
        return err;
    if (list.count == 0)
        return chv_fail(why, CHV_ERR_NOT_FOUND,
                        "the keystore has no master secret: it is not a server's, or its token was initialised anew");
    qsort(epochs, list.count, sizeof epochs[0], provision_compare); /* labels are in the order of text: 10 before 2 */
    *count = list.count;
    return CHV_OK;
}

enum chv_err chv_provision_text(struct chv_keystore *ks, const char *label, char *out, size_t cap, struct chv_why *why)
{
    uint8_t text[CHV_KEYSTORE_DATA_MAX];
    size_t len = sizeof text;
    enum chv_err err = chv_keystore_data_get(ks, label, text, &len, why);
    if (err != CHV_OK)
        return err;
    if (len == 0 || len >= cap)
        return chv_fail(why, CHV_ERR_STORE_DAMAGED, "the item '%s' has %zu bytes", label, len);
    for (size_t i = 0; i < len; i++)
        if (text[i] < 0x20 || text[i] == 0x7f)
            return chv_fail(why, CHV_ERR_STORE_DAMAGED, "the item '%s' holds control characters", label);
    memcpy(out, text, len);
    out[len] = 0;
    return CHV_OK;
}

/* --- the credential ------------------------------------------------------------------------------------------------
 */

enum chv_err chv_provision_begin(struct chv_provision *p, const char *id, uint32_t epoch, uint32_t serial,
                                 uint64_t not_after, struct chv_why *why)
{
    memset(p, 0, sizeof *p);
    if (!chv_client_id_valid(id))
        return chv_fail(why, CHV_ERR_ARGUMENT,
                        "bad client id '%.80s': a client id may hold letters, digits, . _ @ : -, first one "
                        "alphanumeric, 1 to %d in all",
                        id, CHV_CLIENT_ID_MAX);
    if (epoch == 0 || serial == 0)
        return chv_fail(why, CHV_ERR_ARGUMENT, "epochs and serials count from 1");
    p->credential.profile = CHV_PROFILE_PSK;
    p->credential.epoch = epoch;
    p->credential.serial = serial;
    p->credential.not_after = not_after;
    (void)snprintf(p->credential.id, sizeof p->credential.id, "%s", id);
    return CHV_OK;
}

enum chv_err chv_provision_scope(struct chv_provision *p, const char *scope, struct chv_why *why)
{
    if (!chv_scope_valid(scope))
        return chv_fail(why, CHV_ERR_ARGUMENT,
                        "bad scope '%.80s': a scope may hold a-z, 0-9, . _ : / -, 1 to %d in all, such as message or "
                        "files:ro",
                        scope, CHV_SCOPE_MAX);
    enum chv_err err = chv_credential_add_scope(&p->credential, scope);
    if (err != CHV_OK)
        return chv_fail(why, CHV_ERR_ARGUMENT, "scope '%s': a client may have %d scopes at most", scope,
                        CHV_SCOPES_MAX);
    return CHV_OK;
}

enum chv_err chv_provision_end(struct chv_provision *p, struct chv_why *why)
{
    size_t len = sizeof p->bytes;
    enum chv_err err = chv_credential_encode(&p->credential, p->bytes, &len);
    if (err == CHV_ERR_SPACE)
        return chv_fail(why, CHV_ERR_ARGUMENT,
                        "the credential of '%s' would be longer than %d bytes: give fewer scopes", p->credential.id,
                        CHV_CREDENTIAL_MAX);
    if (err != CHV_OK)
        return chv_fail(why, err, "the credential of '%s' cannot be encoded", p->credential.id);
    p->len = len;
    return chv_info_access(p->bytes, p->len, p->info, &p->info_len);
}

/* --- keys ----------------------------------------------------------------------------------------------------------
 */

/* "master:EPOCH", and an error that says which epochs there are. */
static enum chv_err provision_master_label(struct chv_keystore *server, uint32_t epoch, char label[CHV_LABEL_MAX + 1],
                                           struct chv_why *why)
{
    uint32_t epochs[CHV_PROVISION_EPOCHS];
    char known[160] = "";
    size_t count = 0;
    enum chv_err err = chv_provision_epochs(server, epochs, &count, why);
    if (err != CHV_OK)
        return err;
    for (size_t i = 0; i < count; i++) {
        size_t used = strlen(known);
        if (epochs[i] == epoch) {
            (void)snprintf(label, CHV_LABEL_MAX + 1, "%s%" PRIu32, provision_master, epoch);
            return CHV_OK;
        }
        (void)snprintf(known + used, sizeof known - used, "%s%" PRIu32, i == 0 ? "" : ", ", epochs[i]);
    }
    return chv_fail(why, CHV_ERR_NOT_FOUND, "the keystore has no master of epoch %" PRIu32 ": it has %s", epoch, known);
}

enum chv_err chv_provision_check(struct chv_keystore *server, const struct chv_provision *p,
                                 uint8_t out[CHV_SECRET_LEN], struct chv_why *why)
{
    char label[CHV_LABEL_MAX + 1];
    uint8_t info[CHV_INFO_MAX];
    size_t len = 0;
    enum chv_err err = provision_master_label(server, p->credential.epoch, label, why);
    if (err == CHV_OK)
        err = chv_info_check(info, &len);
    if (err == CHV_OK)
        err = chv_keystore_derive2(server, label, p->info, p->info_len, info, len, out, why);
    return err;
}

enum chv_err chv_provision_check_stored(struct chv_keystore *ks, const char *label, uint8_t out[CHV_SECRET_LEN],
                                        struct chv_why *why)
{
    uint8_t info[CHV_INFO_MAX];
    size_t len = 0;
    enum chv_err err = chv_info_check(info, &len);
    if (err == CHV_OK)
        err = chv_keystore_derive(ks, label, info, len, out, why);
    return err;
}

enum chv_err chv_provision_bind(struct chv_provision *p, const struct chv_identity *client, struct chv_why *why)
{
    enum chv_err err = chv_identity_digest(client, p->credential.identity_hash, why);
    p->credential.profile = CHV_PROFILE_KEY_PSK;
    p->credential.has_identity = err == CHV_OK;
    return err;
}

/* What chv_provision_client puts into the client's keystore, and takes out again. */
struct provision_made {
    struct chv_keystore *client;
    char key[CHV_LABEL_MAX + 1], credential[CHV_LABEL_MAX + 1];
    bool any; /* before it nothing was put in, and what is there may be another's */
};

/* The key pair in the client's keystore, and what that makes of the credential. */
static enum chv_err provision_make_identity(struct provision_made *made, struct chv_provision *p,
                                            struct chv_provision_identity *identity, struct chv_why *why)
{
    enum chv_err err =
        chv_keystore_generate_identity(made->client, CHV_IDENTITY_LABEL, CHV_USE_IDENTITY, identity->server.curve, why);
    if (err != CHV_OK)
        return err;
    made->any = true;
    err = chv_identity_of(made->client, &identity->client, why);
    if (err == CHV_OK && p->credential.profile == CHV_PROFILE_KEY_PSK)
        err = chv_provision_bind(p, &identity->client, why);
    if (err == CHV_OK && p->credential.profile == CHV_PROFILE_KEY_PSK)
        err = chv_provision_end(p, why);
    return err;
}

static enum chv_err provision_put_key(struct provision_made *made, const struct chv_provision *p,
                                      const uint8_t key[CHV_SECRET_LEN], struct chv_why *why)
{
    const struct chv_credential *c = &p->credential;
    (void)snprintf(made->key, sizeof made->key, "access:%" PRIu32 ".%" PRIu32, c->epoch, c->serial);
    (void)snprintf(made->credential, sizeof made->credential, "credential:%" PRIu32 ".%" PRIu32, c->epoch, c->serial);
    enum chv_err err = chv_keystore_import(made->client, made->key, key, why);
    if (err != CHV_OK)
        return err;
    made->any = true;
    return provision_put(made->client, made->credential, p->bytes, p->len, why);
}

static enum chv_err provision_put_access(struct provision_made *made, struct chv_keystore *server, const char *master,
                                         const struct chv_provision *p, struct chv_why *why)
{
    uint8_t key[CHV_SECRET_LEN] = {0};
    enum chv_err err = chv_keystore_derive(server, master, p->info, p->info_len, key, why);
    if (err == CHV_OK)
        err = provision_put_key(made, p, key, why);
    chv_wipe(key, sizeof key);
    return err;
}

static enum chv_err provision_put_server(struct provision_made *made, enum chv_profile profile, const char *server_name,
                                         const char *address, const struct chv_provision_identity *identity,
                                         struct chv_why *why)
{
    char text[CHV_IDENTITY_TEXT_MAX];
    enum chv_err err = provision_put_text(made->client, "server", server_name, why);
    if (err == CHV_OK)
        err = provision_put_text(made->client, "address", address, why);
    if (err != CHV_OK || identity == NULL)
        return err;
    chv_identity_format(&identity->server, text);
    err = provision_put_text(made->client, "server-key", text, why);
    if (err == CHV_OK && profile == CHV_PROFILE_KEY)
        err = provision_put_text(made->client, "profile", chv_profile_name(profile), why);
    return err;
}

/* Makes it durable, or takes out what was put in. */
static enum chv_err provision_end(struct provision_made *made, enum chv_err err, struct chv_why *why)
{
    if (err == CHV_OK)
        err = chv_keystore_commit(made->client, why);
    if (err != CHV_OK && made->any) {
        const char *const labels[] = {made->key, made->credential, CHV_IDENTITY_LABEL, "server",
                                      "address", "server-key",     "profile"};
        provision_remove(made->client, labels, sizeof labels / sizeof labels[0]);
    }
    chv_keystore_close(made->client);
    return err;
}

enum chv_err chv_provision_client(struct chv_keystore *server, struct chv_provision *p, const char *server_name,
                                  const char *address, struct chv_provision_identity *identity,
                                  const struct chv_provision_store *out, struct chv_why *why)
{
    const bool credential = p->credential.profile != CHV_PROFILE_KEY;
    char master[CHV_LABEL_MAX + 1];
    struct provision_made made = {.client = out->open};

    enum chv_err err = chv_provision_address(address, why);
    if (err == CHV_OK && !chv_server_name_valid(server_name))
        err = chv_fail(why, CHV_ERR_ARGUMENT, "bad server name '%.80s'", server_name);
    if (err == CHV_OK && credential)
        err = provision_master_label(server, p->credential.epoch, master, why);
    if (err == CHV_OK && made.client == NULL)
        err = chv_provision_open(out, CHV_KEYSTORE_CREATE, &made.client, why);
    if (err == CHV_OK && identity != NULL && identity->generate)
        err = provision_make_identity(&made, p, identity, why);
    if (err == CHV_OK && credential)
        err = provision_put_access(&made, server, master, p, why);
    if (err == CHV_OK)
        err = provision_put_server(&made, p->credential.profile, server_name, address, identity, why);
    return provision_end(&made, err, why);
}

/* --- a keystore that is there already ------------------------------------------------------------------------------
 */

enum chv_err chv_provision_check_given(const uint8_t key[CHV_SECRET_LEN], uint8_t out[CHV_SECRET_LEN])
{
    uint8_t info[CHV_INFO_MAX];
    size_t len = 0;
    struct chv_crypto crypto = {0};
    enum chv_err err = chv_info_check(info, &len);
    if (err == CHV_OK)
        err = chv_backend_open("openssl", &crypto, NULL);
    if (err == CHV_OK)
        err = chv_hkdf_expand(&crypto, CHV_HASH_SHA256, key, CHV_SECRET_LEN, info, len, out, CHV_SECRET_LEN);
    chv_backend_close(&crypto);
    return err;
}

/* Where an access key comes from: the server's master, or a bundle. */
struct provision_source {
    struct chv_keystore *server;
    const uint8_t *key; /* NULL: it is derived */
};

/* Whether the keystore has that access key; CHV_ERR_NOT_FOUND: none of its name, CHV_ERR_EXISTS: another one. */
static enum chv_err provision_compare_access(struct chv_keystore *client, const struct provision_source *source,
                                             const struct chv_provision *p, const char *name, struct chv_why *why)
{
    uint8_t there[CHV_SECRET_LEN], wanted[CHV_SECRET_LEN];
    char label[CHV_LABEL_MAX + 1];
    (void)snprintf(label, sizeof label, "access:%" PRIu32 ".%" PRIu32, p->credential.epoch, p->credential.serial);
    enum chv_err err = chv_provision_check_stored(client, label, there, why);
    if (err == CHV_OK)
        err = source->key != NULL ? chv_provision_check_given(source->key, wanted)
                                  : chv_provision_check(source->server, p, wanted, why);
    if (err == CHV_OK && !chv_equal(there, wanted, sizeof there))
        err = chv_fail(why, CHV_ERR_EXISTS, "%s: is there already with another key", name);
    return err;
}

enum { PROVISION_KEYS_MAX = 16 /* of one client: the one in use, and those that are to follow it */ };

struct provision_keys {
    char credentials[PROVISION_KEYS_MAX][CHV_LABEL_MAX + 1];
    size_t count;
    bool master;
};

static enum chv_err provision_on_access(void *arg, const struct chv_key_info *info)
{
    struct provision_keys *keys = arg;
    uint32_t epoch, serial;
    if (strncmp(info->label, provision_master, sizeof provision_master - 1) == 0)
        keys->master = true;
    else if (keys->count < PROVISION_KEYS_MAX && chv_client_key_label(info->label, &epoch, &serial))
        (void)snprintf(keys->credentials[keys->count++], CHV_LABEL_MAX + 1, "credential:%" PRIu32 ".%" PRIu32, epoch,
                       serial);
    return CHV_OK;
}

static const char *provision_elsewhere(const char *name)
{
    return chv_token_uri_is(name) ? "choose another name by object=" : "choose another file";
}

/* That what is there is this client's and of this server: no key of another one is put beside it. */
static enum chv_err provision_same(struct chv_keystore *client, const char *id, const char *server_name,
                                   const char *name, bool *any, struct chv_why *why)
{
    struct provision_keys keys = {.count = 0};
    struct chv_credential c;
    char server[CHV_SERVER_NAME_MAX + 1];
    enum chv_err err = chv_keystore_list(client, provision_on_access, &keys, why);
    if (err == CHV_OK && keys.master)
        return chv_fail(why, CHV_ERR_EXISTS, "%s: is a server's keystore", name);
    *any = keys.count > 0;
    for (size_t i = 0; err == CHV_OK && i < keys.count; i++) {
        uint8_t bytes[CHV_CREDENTIAL_MAX];
        size_t len = sizeof bytes;
        err = chv_keystore_data_get(client, keys.credentials[i], bytes, &len, why);
        if (err == CHV_OK && (chv_credential_parse(bytes, len, &c, NULL) != CHV_OK || strcmp(c.id, id) != 0))
            return chv_fail(why, CHV_ERR_EXISTS, "%s: holds the key of another client: %s", name,
                            provision_elsewhere(name));
        if (err == CHV_ERR_NOT_FOUND)
            err = CHV_OK; /* it was cut off there */
    }
    if (err == CHV_OK)
        err = chv_provision_text(client, "server", server, sizeof server, why);
    if (err == CHV_OK && strcmp(server, server_name) != 0)
        return chv_fail(why, CHV_ERR_EXISTS, "%s: holds a key for server '%s': %s", name, server,
                        provision_elsewhere(name));
    return err == CHV_ERR_NOT_FOUND ? CHV_OK : err;
}

/* The credential before its key, so that a client that is cut off between them has its older one. */
static enum chv_err provision_complete_access(struct provision_made *made, const struct provision_source *source,
                                              const struct chv_provision *p, bool missing, struct chv_why *why)
{
    char master[CHV_LABEL_MAX + 1];
    (void)snprintf(made->credential, sizeof made->credential, "credential:%" PRIu32 ".%" PRIu32, p->credential.epoch,
                   p->credential.serial);
    enum chv_err err = provision_put(made->client, made->credential, p->bytes, p->len, why);
    if (err != CHV_OK || !missing)
        return err;
    if (source->key != NULL)
        return provision_put_key(made, p, source->key, why);
    err = provision_master_label(source->server, p->credential.epoch, master, why);
    return err == CHV_OK ? provision_put_access(made, source->server, master, p, why) : err;
}

static enum chv_err provision_complete(struct provision_made *made, const struct provision_source *source,
                                       struct chv_provision *p, const char *server_name, const char *address,
                                       struct chv_provision_identity *identity, const char *name, bool add,
                                       struct chv_why *why)
{
    const bool credential = p->credential.profile != CHV_PROFILE_KEY;
    bool any = false;
    enum chv_err err = add ? provision_same(made->client, p->credential.id, server_name, name, &any, why) : CHV_OK;
    if (err == CHV_OK && identity != NULL && identity->generate) {
        err = chv_identity_of(made->client, &identity->client, NULL);
        if (err == CHV_ERR_NOT_FOUND && add)
            return chv_fail(why, CHV_ERR_EXISTS, "%s: is there already and holds no identity key: give --identity KEY",
                            name);
        if (err == CHV_OK && credential)
            err = chv_provision_bind(p, &identity->client, why);
        if (err == CHV_OK && credential)
            err = chv_provision_end(p, why);
    }
    if (err == CHV_OK && credential) {
        err = provision_compare_access(made->client, source, p, name, why);
        if (add && (err == CHV_OK || err == CHV_ERR_NOT_FOUND))
            err = provision_complete_access(made, source, p, err == CHV_ERR_NOT_FOUND, why);
    }
    if (err == CHV_OK && add)
        err = provision_put_server(made, p->credential.profile, server_name, address, identity, why);
    if (err == CHV_OK && add)
        err = chv_keystore_commit(made->client, why);
    if (err == CHV_ERR_NOT_FOUND)
        err = chv_fail(why, CHV_ERR_EXISTS, "%s: is there already and holds something else", name);
    return err;
}

enum chv_err chv_provision_again(struct chv_keystore *server, struct chv_provision *p, const char *server_name,
                                 const char *address, struct chv_provision_identity *identity,
                                 const struct chv_provision_store *out, struct chv_why *why)
{
    const struct provision_source source = {.server = server};
    const bool token = chv_token_uri_is(out->uri);
    struct provision_made made = {.client = NULL};
    enum chv_err err = chv_provision_open(out, token ? CHV_KEYSTORE_WRITE : CHV_KEYSTORE_READ, &made.client, why);
    if (err == CHV_OK)
        err = provision_complete(&made, &source, p, server_name, address, identity, out->uri, token, why);
    chv_keystore_close(made.client);
    return err;
}

enum chv_err chv_provision_reopen(const struct chv_provision_store *out, const char *id, const char *server_name,
                                  struct chv_keystore **ks, struct chv_why *why)
{
    struct chv_keystore *there = NULL;
    bool any = false;
    enum chv_err err = chv_provision_open(out, CHV_KEYSTORE_WRITE, &there, why);
    if (err == CHV_OK)
        err = provision_same(there, id, server_name, out->uri, &any, why);
    if (err == CHV_OK && !any)
        err = chv_fail(why, CHV_ERR_EXISTS, "%s: is there already and holds no key of client '%s'", out->uri, id);
    if (err == CHV_OK)
        *ks = there;
    else
        chv_keystore_close(there);
    return err;
}

enum chv_err chv_provision_beside(struct chv_keystore *server, struct chv_provision *p, const char *server_name,
                                  const char *address, struct chv_provision_identity *identity, struct chv_keystore *ks,
                                  const char *name, bool add, struct chv_why *why)
{
    const struct provision_source source = {.server = server};
    struct provision_made made = {.client = ks};
    return provision_complete(&made, &source, p, server_name, address, identity, name, add, why);
}

enum chv_err chv_provision_given(struct chv_provision *p, const uint8_t key[CHV_SECRET_LEN], const char *server_name,
                                 const char *address, struct chv_provision_identity *identity,
                                 const struct chv_provision_store *out, struct chv_why *why)
{
    const struct provision_source source = {.key = key};
    struct provision_made made = {.client = NULL};
    enum chv_err err = chv_provision_address(address, why);
    if (err == CHV_OK)
        err = chv_provision_open(out, CHV_KEYSTORE_CREATE, &made.client, why);
    if (err == CHV_ERR_EXISTS && chv_token_uri_is(out->uri)) {
        err = chv_provision_open(out, CHV_KEYSTORE_WRITE, &made.client, why);
        if (err == CHV_OK)
            err = provision_complete(&made, &source, p, server_name, address, identity, out->uri, true, why);
        chv_keystore_close(made.client);
        return err;
    }
    if (err == CHV_OK)
        err = provision_put_key(&made, p, key, why);
    if (err == CHV_OK)
        err = provision_put_server(&made, p->credential.profile, server_name, address, identity, why);
    return provision_end(&made, err, why);
}
