/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyadmin client add --from: a batch of clients from a list into one sealed bundle.  The whole list is checked before
 * anything is made; numbers are given in transactions of a few thousand; what was cut off goes on with the same ones.
 */
#include "tools/keyadmin_registry.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/memory.h"
#include "tools/bundle.h"
#include "tools/csv.h"
#include "tools/identity.h"
#include "tools/times.h"

enum { BULK_FILE_MAX = 512 << 20, BULK_FIELDS = 5, BULK_BATCH = 2000, BULK_BAR = 30, BULK_SCOPES_TOLD = 16 };

/* Profile key+psk: the client's identity key, and its hash as the credential has it. */
struct bulk_bound {
    struct chv_identity identity;
    uint8_t hash[CHV_IDENTITY_HASH_LEN];
};

/* A line of the list; texts are in its buffer. */
struct bulk_client {
    const char *id;
    char *scopes;
    size_t line;
    uint64_t not_after;
    bool relative;
    struct bulk_bound *bound; /* NULL: profile psk */
    struct chv_issue issue;   /* once it is granted */
};

struct bulk {
    const struct chv_cli_args *args;
    const char *file, *out;
    char *text;
    struct bulk_client *clients;
    size_t count, room, bound_count;
    struct chv_identity server_identity; /* if there are bound ones */
    struct keyadmin_server server;
    struct keyadmin_registry registry;
    struct keyadmin_epochs epochs;
    uint32_t epoch;
    size_t added, again, pending;
    bool there; /* the bundle is: right only if it is to be completed */
    struct chv_bundle_writer *writer;
    char address[CHV_ADDRESS_MAX + 1];
    bool progress;
};

static enum chv_err bulk_wrong(const struct bulk *b, size_t line, enum chv_err err, const char *what,
                               struct chv_why *why)
{
    return chv_fail(why, err, "%s:%zu: %s", b->file, line, what);
}

/* --- the list ------------------------------------------------------------------------------------------------------
 */

static enum chv_err bulk_header(const struct bulk *b, const struct chv_csv *csv, char **fields, size_t n,
                                struct chv_why *why)
{
    static const char *const names[BULK_FIELDS] = {"id", "scopes", "expires", "profile", "identity"};
    bool right = n >= 1;
    if (n == 0)
        return chv_fail(why, CHV_ERR_MALFORMED,
                        "%s: is empty: its first line is to be the header, id,scopes,expires or "
                        "id,scopes,expires,profile,identity, and each other one a client",
                        b->file);
    for (size_t i = 0; right && i < n; i++)
        right = strcmp(fields[i], names[i]) == 0;
    return right
               ? CHV_OK
               : bulk_wrong(b, csv->line, CHV_ERR_MALFORMED,
                            "the first line is not the header: id,scopes,expires or id,scopes,expires,profile,identity",
                            why);
}

/* A credential of this line, to see whether it can be one and to derive its key. */
static enum chv_err bulk_credential(const struct bulk *b, const struct bulk_client *client, struct chv_issue issue,
                                    struct chv_provision *p, struct chv_why *why)
{
    char scopes[CHV_CREDENTIAL_MAX * 2], *save = NULL;
    enum chv_err err = chv_provision_begin(p, client->id, issue.epoch, issue.serial, client->not_after, why);
    if (err != CHV_OK)
        return err;
    if ((size_t)snprintf(scopes, sizeof scopes, "%s", client->scopes) >= sizeof scopes)
        return chv_fail(why, CHV_ERR_ARGUMENT, "there are too many scopes");
    for (char *scope = strtok_r(scopes, " ;\t", &save); err == CHV_OK && scope != NULL;
         scope = strtok_r(NULL, " ;\t", &save))
        err = chv_provision_scope(p, scope, why);
    for (size_t i = 0; err == CHV_OK && p->credential.scope_count == 0 && i < b->args->repeat_count; i++)
        err = chv_provision_scope(p, b->args->repeats[i], why);
    if (err == CHV_OK && p->credential.scope_count == 0)
        err = chv_provision_scope(p, "message", why);
    if (client->bound != NULL) {
        p->credential.profile = CHV_PROFILE_KEY_PSK;
        p->credential.has_identity = true;
        memcpy(p->credential.identity_hash, client->bound->hash, sizeof client->bound->hash);
    }
    return err == CHV_OK ? chv_provision_end(p, why) : err;
}

/* The columns profile and identity. */
static enum chv_err bulk_profile(struct bulk *b, struct bulk_client *client, const char *profile, const char *key,
                                 struct chv_why *why)
{
    enum chv_profile found = CHV_PROFILE_PSK;
    if (profile[0] != '\0' && chv_profile_find(profile, &found) != CHV_OK)
        return chv_fail(why, CHV_ERR_ARGUMENT, "unknown profile '%.40s': there are psk and key+psk", profile);
    if (found == CHV_PROFILE_KEY)
        return chv_fail(why, CHV_ERR_ARGUMENT,
                        "profile 'key': such a client has no access key that a bundle could hold: 'client add %s "
                        "--profile key --identity KEY' lets its key in",
                        client->id);
    if (found == CHV_PROFILE_PSK)
        return key[0] == '\0' ? CHV_OK
                              : chv_fail(why, CHV_ERR_ARGUMENT, "an identity key goes with profile key+psk only");
    if (key[0] == '\0')
        return chv_fail(
            why, CHV_ERR_ARGUMENT,
            "profile 'key+psk': the client's public key is missing in the column identity, x25519 BASE64 or "
            "a PEM file");
    client->bound = calloc(1, sizeof *client->bound);
    if (client->bound == NULL)
        return CHV_ERR_MEMORY;
    b->bound_count++;
    enum chv_err err = chv_identity_public(key, &client->bound->identity, why);
    return err == CHV_OK ? chv_identity_digest(&client->bound->identity, client->bound->hash, why) : err;
}

static enum chv_err bulk_take(struct bulk *b, const struct chv_csv *csv, char **fields, size_t n, uint64_t now,
                              struct chv_why *why)
{
    static const struct chv_issue first = {1, 1};
    struct chv_provision p;
    struct chv_why wrong = {""};
    static char none[] = "";
    if (b->count == b->room) {
        size_t room = b->room == 0 ? 1024 : b->room * 2;
        struct bulk_client *more = reallocarray(b->clients, room, sizeof *more);
        if (more == NULL)
            return CHV_ERR_MEMORY;
        b->clients = more;
        b->room = room;
    }
    if (b->count == CHV_BUNDLE_CLIENTS_MAX)
        return bulk_wrong(b, csv->line, CHV_ERR_MALFORMED, "there are more clients than a bundle can hold", why);
    struct bulk_client *client = &b->clients[b->count++];
    const char *expires = n > 2 && fields[2][0] != '\0' ? fields[2] : chv_cli_value(b->args, "expires");
    *client = (struct bulk_client){.id = fields[0], .scopes = n > 1 ? fields[1] : none, .line = csv->line};
    if (expires == NULL)
        expires = "90d";
    client->relative = keyadmin_expiry_relative(expires);
    enum chv_err err = chv_time_expiry(expires, now, &client->not_after, &wrong);
    if (err == CHV_OK)
        err = bulk_profile(b, client, n > 3 ? fields[3] : none, n > 4 ? fields[4] : none, &wrong);
    if (err == CHV_OK)
        err = bulk_credential(b, client, first, &p, &wrong);
    return err == CHV_OK ? CHV_OK : bulk_wrong(b, csv->line, err, wrong.text[0] ? wrong.text : chv_err_text(err), why);
}

static int bulk_lines(const struct bulk_client *a, const struct bulk_client *b)
{
    return (a->line > b->line) - (a->line < b->line);
}

static int bulk_compare(const void *x, const void *y)
{
    const struct bulk_client *a = *(const struct bulk_client *const *)x, *b = *(const struct bulk_client *const *)y;
    int order = strcmp(a->id, b->id);
    return order != 0 ? order : bulk_lines(a, b);
}

/* By identity keys; those without one are behind the others. */
static int bulk_compare_bound(const void *x, const void *y)
{
    const struct bulk_client *a = *(const struct bulk_client *const *)x, *b = *(const struct bulk_client *const *)y;
    if (a->bound == NULL || b->bound == NULL)
        return a->bound != NULL ? -1 : b->bound != NULL ? 1 : bulk_lines(a, b);
    int order = memcmp(a->bound->hash, b->bound->hash, sizeof a->bound->hash);
    return order != 0 ? order : bulk_lines(a, b);
}

static enum chv_err bulk_no_twice(struct bulk *b, struct chv_why *why)
{
    enum chv_err err = CHV_OK;
    /* pointers are sorted: NOLINTBEGIN(bugprone-sizeof-expression) */
    const struct bulk_client **sorted = calloc(b->count, sizeof *sorted);
    if (sorted == NULL)
        return CHV_ERR_MEMORY;
    for (size_t i = 0; i < b->count; i++)
        sorted[i] = &b->clients[i];
    qsort(sorted, b->count, sizeof *sorted, bulk_compare);
    for (size_t i = 1; i < b->count && err == CHV_OK; i++)
        if (strcmp(sorted[i - 1]->id, sorted[i]->id) == 0)
            err = chv_fail(why, CHV_ERR_ARGUMENT, "%s:%zu: client '%s' stands on line %zu already", b->file,
                           sorted[i]->line, sorted[i]->id, sorted[i - 1]->line);
    if (b->bound_count > 1)
        qsort(sorted, b->count, sizeof *sorted, bulk_compare_bound);
    /* NOLINTEND(bugprone-sizeof-expression) */
    for (size_t i = 1; i < b->bound_count && err == CHV_OK; i++)
        if (memcmp(sorted[i - 1]->bound->hash, sorted[i]->bound->hash, CHV_IDENTITY_HASH_LEN) == 0)
            err = chv_fail(why, CHV_ERR_ARGUMENT, "%s:%zu: the identity key of client '%s' stands on line %zu already",
                           b->file, sorted[i]->line, sorted[i]->id, sorted[i - 1]->line);
    free(sorted);
    return err;
}

/* The server's identity key, which bound clients pin and theirs have to go with. */
static enum chv_err bulk_identity(struct bulk *b, struct chv_why *why)
{
    if (b->bound_count == 0)
        return CHV_OK;
    enum chv_err err = chv_identity_of(b->server.keystore, &b->server_identity, NULL);
    if (err == CHV_ERR_NOT_FOUND)
        return chv_fail(why, err, "the server has no identity key: 'keyadmin identity new --server' makes one");
    if (err != CHV_OK)
        return chv_fail(why, err, "the server's identity key: %s", chv_err_text(err));
    for (size_t i = 0; i < b->count; i++)
        if (b->clients[i].bound != NULL && b->clients[i].bound->identity.curve != b->server_identity.curve)
            return bulk_wrong(b, b->clients[i].line, CHV_ERR_ARGUMENT,
                              "the identity key is of another kind than the server's", why);
    return CHV_OK;
}

static enum chv_err bulk_load(struct bulk *b, struct chv_why *why)
{
    char *fields[BULK_FIELDS];
    struct chv_csv csv;
    size_t n = 0;
    const uint64_t now = chv_time_now();
    enum chv_err err = chv_csv_load(b->file, BULK_FILE_MAX, &b->text, why);
    if (err != CHV_OK)
        return err;
    chv_csv_begin(&csv, b->file, b->text);
    err = chv_csv_next(&csv, fields, BULK_FIELDS, &n, why);
    if (err == CHV_OK)
        err = bulk_header(b, &csv, fields, n, why);
    while (err == CHV_OK) {
        err = chv_csv_next(&csv, fields, BULK_FIELDS, &n, why);
        if (err != CHV_OK || n == 0)
            break;
        err = bulk_take(b, &csv, fields, n, now, why);
    }
    if (err == CHV_OK && b->count == 0)
        err = chv_fail(why, CHV_ERR_MALFORMED, "%s: there is no client in it", b->file);
    return err == CHV_OK ? bulk_no_twice(b, why) : err;
}

/* --- progress ------------------------------------------------------------------------------------------------------
 */

static void bulk_progress(const struct bulk *b, const char *what, size_t done)
{
    char bar[BULK_BAR + 1];
    if (!b->progress)
        return;
    const size_t full = b->count == 0 ? BULK_BAR : done * BULK_BAR / b->count;
    for (size_t i = 0; i < BULK_BAR; i++)
        bar[i] = i < full ? '#' : '.';
    bar[BULK_BAR] = '\0';
    (void)fprintf(stderr, "\r%-11s [%s] %zu/%zu", what, bar, done, b->count);
    (void)fflush(stderr);
}

static void bulk_progress_end(const struct bulk *b)
{
    if (b->progress)
        (void)fprintf(stderr, "\r\033[K");
}

/* --- numbers -------------------------------------------------------------------------------------------------------
 */

static enum chv_err bulk_grant(struct bulk *b, struct bulk_client *client, bool dry, struct chv_why *why)
{
    struct keyadmin_wish wish = {.expires_relative = client->relative,
                                 .epoch_given = chv_cli_given(b->args, "epoch"),
                                 .epochs = &b->epochs,
                                 .dry = dry};
    struct keyadmin_grant grant;
    struct chv_provision p;
    struct chv_why wrong = {""};
    enum chv_err err = bulk_credential(b, client, (struct chv_issue){b->epoch, 1}, &p, &wrong);
    wish.credential = p.credential;
    wish.has_identity = client->bound != NULL;
    if (wish.has_identity)
        wish.identity = client->bound->identity;
    if (err == CHV_OK)
        err = keyadmin_grant(&b->registry, &wish, &grant, &wrong);
    if (err == CHV_ERR_EXISTS || err == CHV_ERR_ARGUMENT)
        return bulk_wrong(b, client->line, err, wrong.text, why);
    if (err != CHV_OK)
        return chv_fail(why, err, "%s", wrong.text[0] ? wrong.text : chv_err_text(err));
    if (dry) {
        b->again += grant.again ? 1 : 0;
        b->pending += grant.pending ? 1 : 0;
        return CHV_OK;
    }
    client->issue = (struct chv_issue){wish.credential.epoch, wish.credential.serial};
    client->not_after = wish.credential.not_after;
    b->added += grant.again ? 0 : 1;
    return CHV_OK;
}

/* Asked for each batch anew: an epoch may have come to its end since. */
static enum chv_err bulk_epoch(struct bulk *b, struct chv_why *why)
{
    enum chv_err err = keyadmin_epochs_load(&b->epochs, b->server.config, &b->registry, why);
    return err == CHV_OK
               ? keyadmin_epoch_pick(&b->server, &b->epochs, chv_cli_given(b->args, "epoch"), false, &b->epoch, why)
               : err;
}

static enum chv_err bulk_look(struct bulk *b, struct chv_why *why)
{
    enum chv_err err = bulk_epoch(b, why);
    for (size_t i = 0; err == CHV_OK && b->registry.r != NULL && i < b->count; i++) {
        err = bulk_grant(b, &b->clients[i], true, why);
        if (i % BULK_BATCH == 0)
            bulk_progress(b, "checking", i);
    }
    /* a bundle that is there is ours if its clients are, and it may be that not all of it was recorded */
    if (err == CHV_OK && b->there && (b->again < b->count || b->pending == 0 || !chv_bundle_is(b->out)))
        err = chv_fail(why, CHV_ERR_EXISTS, "%s: is there already and will not be overwritten", b->out);
    return err;
}

static enum chv_err bulk_number(struct bulk *b, struct chv_why *why)
{
    enum chv_err err = CHV_OK;
    for (size_t i = 0; err == CHV_OK && b->registry.r == NULL && i < b->count; i++)
        b->clients[i].issue = (struct chv_issue){b->epoch, 1};
    for (size_t i = 0; err == CHV_OK && b->registry.r != NULL && i < b->count;) {
        const size_t end = b->count - i < BULK_BATCH ? b->count : i + BULK_BATCH, added = b->added;
        bulk_progress(b, "registering", i);
        err = chv_registry_begin(b->registry.r, why);
        if (err == CHV_OK)
            err = bulk_epoch(b, why);
        for (; err == CHV_OK && i < end; i++)
            err = bulk_grant(b, &b->clients[i], false, why);
        if (err == CHV_OK && b->added > added)
            err = chv_registry_commit(b->registry.r, why);
        else
            chv_registry_rollback(b->registry.r);
    }
    return err;
}

/* --- keys ----------------------------------------------------------------------------------------------------------
 */

static enum chv_err bulk_seal(struct bulk *b, struct chv_why *why)
{
    uint8_t key[CHV_SECRET_LEN] = {0};
    char label[CHV_LABEL_MAX + 1];
    struct chv_provision p;
    enum chv_err err = CHV_OK;
    for (size_t i = 0; err == CHV_OK && i < b->count; i++) {
        const struct bulk_client *client = &b->clients[i];
        if (i % BULK_BATCH == 0)
            bulk_progress(b, "deriving", i);
        err = bulk_credential(b, client, client->issue, &p, why);
        (void)snprintf(label, sizeof label, "master:%" PRIu32, client->issue.epoch);
        if (err == CHV_OK)
            err = chv_keystore_derive(b->server.keystore, label, p.info, p.info_len, key, why);
        if (err == CHV_OK)
            err = chv_bundle_put(b->writer, p.bytes, p.len, key, why);
    }
    chv_wipe(key, sizeof key);
    return err == CHV_OK ? chv_bundle_finish(b->writer, b->there, why) : err;
}

struct bulk_slice {
    const struct bulk *bulk;
    size_t from;
};

static const char *bulk_id(void *arg, size_t i, struct chv_issue *issue)
{
    const struct bulk_slice *slice = arg;
    const struct bulk_client *client = &slice->bulk->clients[slice->from + i];
    *issue = client->issue;
    return client->id;
}

static enum chv_err bulk_record(struct bulk *b, struct chv_why *why)
{
    enum chv_err err = CHV_OK;
    for (size_t i = 0; err == CHV_OK && b->registry.r != NULL && i < b->count; i += BULK_BATCH) {
        struct bulk_slice slice = {b, i};
        bulk_progress(b, "recording", i);
        err = keyadmin_granted_many(&b->registry, b->out, b->count - i < BULK_BATCH ? b->count - i : BULK_BATCH,
                                    bulk_id, &slice, why);
    }
    return err;
}

/* --- the command ---------------------------------------------------------------------------------------------------
 */

static enum chv_err bulk_options(const struct bulk *b, struct chv_why *why)
{
    static const char *const others[] = {"to", "serial", "profile", "identity"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (chv_cli_given(b->args, others[i]))
            return chv_fail(why, CHV_ERR_ARGUMENT, "--%s does not go with --from", others[i]);
    if (b->args->operand_count > 0)
        return chv_fail(why, CHV_ERR_ARGUMENT, "give a client's ID or --from FILE, not both");
    if (b->out == NULL)
        return chv_fail(why, CHV_ERR_ARGUMENT, "where shall the bundle go? Give --out FILE");
    if (chv_cli_given(b->args, "recipient") && chv_cli_given(b->args, "client-passphrase-file"))
        return chv_fail(why, CHV_ERR_ARGUMENT, "--recipient: a bundle for a certificate has no passphrase");
    return CHV_OK;
}

static enum chv_err bulk_writer(struct bulk *b, struct chv_why *why)
{
    const struct chv_secret_options secrets = {.passphrase_file = chv_cli_value(b->args, "client-passphrase-file")};
    const char *certificate = chv_cli_value(b->args, "recipient");
    struct chv_secret_source secret;
    struct chv_cms_recipient *recipient = NULL;
    struct chv_bundle_seal seal = {.secret = chv_secret_get, .secret_arg = &secret};
    struct chv_bundle_meta meta = {.created = chv_time_now(), .clients = b->count};
    (void)snprintf(meta.server, sizeof meta.server, "%s", b->server.name);
    (void)snprintf(meta.address, sizeof meta.address, "%s", b->address);
    if (b->bound_count > 0)
        chv_identity_format(&b->server_identity, meta.server_key);
    enum chv_err err = keyadmin_cost(b->args, &seal.scrypt_n, why);
    if (err == CHV_OK)
        err = chv_secret_for(b->out, &secrets, &secret, why);
    secret.option = "--client-passphrase-file";
    secret.credential = NULL; /* that is the server's */
    if (err == CHV_OK && certificate != NULL)
        err = chv_cms_recipient_load(certificate, &recipient, why);
    seal.recipient = recipient;
    bulk_progress_end(b);
    if (err == CHV_OK)
        err = chv_bundle_create(b->out, &seal, &meta, &b->writer, why);
    chv_cms_recipient_free(recipient);
    return err;
}

/* Each scope that no service knows once, with the line that has it first. */
static void bulk_warn_scopes(const struct bulk *b)
{
    char told[BULK_SCOPES_TOLD][CHV_SCOPE_MAX + 1];
    struct chv_provision p;
    size_t count = 0;
    for (size_t i = 0; i < b->count && count < BULK_SCOPES_TOLD; i++) {
        if (bulk_credential(b, &b->clients[i], b->clients[i].issue, &p, NULL) != CHV_OK)
            continue;
        for (size_t k = 0; k < p.credential.scope_count && count < BULK_SCOPES_TOLD; k++) {
            const char *scope = p.credential.scopes[k];
            size_t t = 0;
            while (t < count && strcmp(told[t], scope) != 0)
                t++;
            if (t < count || keyadmin_scope_known(b->server.config, scope))
                continue;
            (void)snprintf(told[count++], sizeof told[0], "%s", scope);
            (void)chv_cli_fail(EX_OK, "warning: %s:%zu: no service knows the scope '%s': it grants nothing", b->file,
                               b->clients[i].line, scope);
        }
    }
}

/* Of all clients the one that lives longest. */
static void bulk_warn(const struct bulk *b)
{
    const struct bulk_client *longest = &b->clients[0];
    struct chv_provision p;
    bulk_warn_scopes(b);
    if (b->bound_count > 0 && b->server.config != NULL &&
        (chv_server_profiles(b->server.config) & CHV_PROFILE_BIT(CHV_PROFILE_KEY_PSK)) == 0)
        (void)chv_cli_fail(
            EX_OK, "warning: the server will refuse clients of profile key+psk: 'profiles' in %s does not have it",
            b->server.config_file);
    for (size_t i = 1; i < b->count; i++)
        if (longest->not_after != 0 && (b->clients[i].not_after == 0 || b->clients[i].not_after > longest->not_after))
            longest = &b->clients[i];
    if (bulk_credential(b, longest, longest->issue, &p, NULL) != CHV_OK)
        return;
    p.credential.scope_count = 0; /* they were warned of */
    if (p.credential.profile == CHV_PROFILE_KEY_PSK)
        p.credential.profile = CHV_PROFILE_PSK; /* likewise */
    keyadmin_warn(&b->server, &p.credential, b->address);
}

static enum chv_err bulk_print(const struct bulk *b)
{
    json_t *o = json_object();
    if (o == NULL)
        return CHV_ERR_MEMORY;
    (void)json_object_set_new(o, "bundle", json_string(b->out));
    (void)json_object_set_new(o, "clients", json_integer((json_int_t)b->count));
    if (b->registry.r != NULL)
        (void)json_object_set_new(o, "added", json_integer((json_int_t)b->added));
    (void)json_object_set_new(o, "server", json_string(b->server.name));
    (void)json_object_set_new(o, "address", json_string(b->address));
    chv_cli_print(o, chv_cli_given(b->args, "json"));
    return CHV_OK;
}

static enum chv_err bulk_run(struct bulk *b, struct chv_why *why)
{
    uint64_t epoch = 0;
    enum chv_err err = bulk_options(b, why);
    if (err == CHV_OK)
        err = bulk_load(b, why);
    b->there = err == CHV_OK && access(b->out, F_OK) == 0;
    if (err == CHV_OK)
        err = keyadmin_server_open(b->args, &b->server, why);
    if (err == CHV_OK)
        err = bulk_identity(b, why);
    if (err == CHV_OK)
        err = keyadmin_server_address(b->args, &b->server, b->address, why);
    if (err == CHV_OK)
        err = chv_cli_number(b->args, "epoch", 1, UINT32_MAX, 0, &epoch, why);
    b->epoch = (uint32_t)epoch;
    if (err == CHV_OK)
        err = keyadmin_registry_open(b->args, b->server.config, CHV_REGISTRY_WRITE, &b->registry, why);
    if (err == CHV_OK)
        err = bulk_look(b, why);
    if (err == CHV_OK)
        err = bulk_writer(b, why);
    if (err == CHV_OK)
        err = bulk_number(b, why);
    if (err == CHV_OK)
        err = bulk_seal(b, why);
    if (err == CHV_OK)
        err = bulk_record(b, why);
    bulk_progress_end(b);
    if (err == CHV_OK) {
        bulk_warn(b);
        keyadmin_seal(&b->registry, &b->server);
        err = bulk_print(b);
    }
    return err;
}

int keyadmin_client_add_many(const struct chv_cli_args *args)
{
    struct chv_why why = {""};
    struct bulk b = {.args = args,
                     .file = chv_cli_value(args, "from"),
                     .out = chv_cli_value(args, "out"),
                     .progress = isatty(STDERR_FILENO) != 0};
    enum chv_err err = bulk_run(&b, &why);
    bulk_progress_end(&b);
    chv_bundle_discard(b.writer);
    keyadmin_registry_close(&b.registry);
    keyadmin_server_close(&b.server);
    for (size_t i = 0; i < b.count; i++)
        free(b.clients[i].bound);
    free(b.clients);
    free(b.text);
    return err == CHV_OK ? EX_OK : chv_cli_why(err, &why);
}
