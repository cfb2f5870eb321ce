/* SPDX-License-Identifier: Apache-2.0 */
/* Key update: the next key is stored beside the one in use, tried first from then on, and what is older goes. */
#include "tools/chaveiro.h"

#include <inttypes.h>
#include <string.h>
#include <sysexits.h>

#include "base/memory.h"
#include "net/client_update.h"
#include "tools/provision.h"

/* A chv_secret_fn: what a person or a pipe gave once is there again when the keystore is to be written. */
enum chv_err chaveiro_secret_get(void *arg, const char *prompt, int confirm, char *out, size_t cap, size_t *len,
                                 struct chv_why *why)
{
    struct chaveiro_secret *s = arg;
    if (s->held != NULL && s->held_len <= cap) {
        memcpy(out, s->held, s->held_len);
        *len = s->held_len;
        return CHV_OK;
    }
    enum chv_err err = chv_secret_get(&s->source, prompt, confirm, out, cap, len, why);
    if (err == CHV_OK && s->hold && !chv_secret_repeatable(&s->source) && *len <= CHV_PASSPHRASE_MAX) {
        s->held = chv_secure_alloc(CHV_PASSPHRASE_MAX); /* without it: asked for again, or said that it cannot be */
        if (s->held != NULL) {
            memcpy(s->held, out, *len);
            s->held_len = *len;
        }
    }
    return err;
}

void chaveiro_secret_free(struct chaveiro_secret *s)
{
    chv_secure_free(s->held, CHV_PASSPHRASE_MAX);
    s->held = NULL;
}

/* The keystore of -k once more, to be changed. */
static enum chv_err update_open(struct chaveiro_link *link, struct chv_keystore **ks, struct chv_why *why)
{
    const struct chv_provision_store store = {
        .uri = link->key_uri, .secret = chaveiro_secret_get, .secret_arg = &link->key_secret};
    if (link->key_secret.held == NULL && !chv_secret_repeatable(&link->key_secret.source) &&
        !chv_token_uri_is(link->key_uri))
        return chv_fail(why, CHV_ERR_NO_SECRET, "its passphrase is not at hand any more");
    return chv_provision_open(&store, CHV_KEYSTORE_WRITE, ks, why);
}

/* Once a run: a keystore that cannot be written stays what it is, and its key works as long as its epoch is served. */
static void update_warn(struct chaveiro_link *link, const char *what, enum chv_err err, const struct chv_why *why)
{
    if (!link->update_warned)
        (void)chv_cli_fail(EX_OK, "warning: %s: %s", what, why->text[0] != '\0' ? why->text : chv_err_text(err));
    link->update_warned = true;
}

bool chaveiro_update(struct chaveiro_link *link, const uint8_t *body, size_t len)
{
    struct chv_why why = {""};
    struct chv_session_info info;
    struct chv_client_update update;
    struct chv_keystore *ks = NULL;
    enum chv_err err = chv_session_get_info(chv_conn_session(chv_message_conn(link->message)), &info);
    if (err == CHV_OK)
        err = chv_client_update_take(&link->key, info.h_fin, body, len, &update, &why);
    if (err != CHV_OK) {
        update_warn(link, "the server's new key for this client is not taken", err, &why);
        return false;
    }
    err = update_open(link, &ks, &why);
    if (err == CHV_OK)
        err = chv_client_update_store(ks, &update, &why);
    chv_keystore_close(ks);
    if (err != CHV_OK)
        update_warn(link, "the new key that the server has for this client cannot be stored; the old one stays in use",
                    err, &why);
    else if (chv_cli_given(link->args, "verbose"))
        (void)chv_cli_fail(EX_OK,
                           "the server gave the key of credential %" PRIu32 ".%" PRIu32 ": it is stored, and "
                           "tried first from now on",
                           update.epoch, update.serial);
    chv_wipe(&update, sizeof update);
    return err == CHV_OK;
}

bool chaveiro_update_of(struct chaveiro_link *link, struct chv_message *message, const struct chv_client_key *key,
                        const uint8_t *body, size_t len)
{
    const struct chv_client_key newest = link->key;
    if (key->parsed.epoch < newest.parsed.epoch ||
        (key->parsed.epoch == newest.parsed.epoch && key->parsed.serial < newest.parsed.serial))
        return false; /* its key may be gone from the keystore, and a later one is in use */
    link->key = *key;
    link->key.keystore = newest.keystore; /* it may have been opened again since */
    link->message = message;
    const bool stored = chaveiro_update(link, body, len);
    link->message = NULL;
    link->key = newest;
    return stored;
}

void chaveiro_update_proven(struct chaveiro_link *link)
{
    struct chv_why why = {""};
    struct chv_keystore *ks = NULL;
    bool older = false;
    enum chv_err err = link->keystore != NULL ? chv_client_update_has_older(&link->key, &older, &why) : CHV_OK;
    if (err == CHV_OK && !older)
        return;
    if (err == CHV_OK)
        err = update_open(link, &ks, &why);
    if (err == CHV_OK)
        err = chv_client_update_retire(ks, &link->key, &why);
    chv_keystore_close(ks);
    if (err != CHV_OK)
        update_warn(link, "the old key of this client, which is not needed any more, cannot be removed", err, &why);
    else if (chv_cli_given(link->args, "verbose"))
        (void)chv_cli_fail(EX_OK, "keys older than credential %" PRIu32 ".%" PRIu32 " are removed: the server knows it",
                           link->key.parsed.epoch, link->key.parsed.serial);
}

bool chaveiro_update_fall_back(struct chaveiro_link *link)
{
    const uint32_t epoch = link->key.parsed.epoch, serial = link->key.parsed.serial;
    struct chv_why why = {""};
    if (link->key.label[0] == '\0' || chv_client_key_older(&link->key, &why) != CHV_OK)
        return false;
    if (chv_cli_given(link->args, "verbose"))
        (void)chv_cli_fail(EX_OK,
                           "%s cannot prove that it knows credential %" PRIu32 ".%" PRIu32 ": trying the older "
                           "%" PRIu32 ".%" PRIu32,
                           link->address, epoch, serial, link->key.parsed.epoch, link->key.parsed.serial);
    return true;
}

/* Takes over what another run has stored since: from the keystore as it is now. */
static enum chv_err update_reread(struct chaveiro_link *link, struct chv_why *why)
{
    const struct chv_provision_store store = {
        .uri = link->key_uri, .secret = chaveiro_secret_get, .secret_arg = &link->key_secret};
    struct chv_client_key now;
    struct chv_keystore *ks = NULL;
    enum chv_err err = chv_provision_open(&store, CHV_KEYSTORE_READ, &ks, why);
    if (err == CHV_OK)
        err = chv_client_key_load_for(&now, ks, link->key.profile, why);
    if (err == CHV_OK && (now.parsed.epoch < link->newest_epoch ||
                          (now.parsed.epoch == link->newest_epoch && now.parsed.serial <= link->newest_serial) ||
                          !chv_client_key_newer(&link->key, &now)))
        err = CHV_ERR_NOT_FOUND;
    if (err != CHV_OK) {
        chv_keystore_close(ks);
        return err;
    }
    if (link->key.identity_keystore == link->keystore)
        link->key.identity_keystore = ks;
    chv_keystore_close(link->keystore);
    link->keystore = ks;
    return CHV_OK;
}

bool chaveiro_update_catch_up(struct chaveiro_link *link)
{
    struct chv_why why = {""};
    if (link->key.label[0] == '\0' || link->caught_up || link->keystore == NULL ||
        (!chv_token_uri_is(link->key_uri) && link->key_secret.held == NULL &&
         !chv_secret_repeatable(&link->key_secret.source)))
        return false;
    link->caught_up = true;
    if (update_reread(link, &why) != CHV_OK)
        return false;
    if (chv_cli_given(link->args, "verbose"))
        (void)chv_cli_fail(EX_OK, "another run has stored credential %" PRIu32 ".%" PRIu32 " meanwhile: trying that",
                           link->key.parsed.epoch, link->key.parsed.serial);
    return true;
}
