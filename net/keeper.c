/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "net/keeper.h"

#include "base/memory.h"
#include "core/credential.h"
#include "core/hkdf.h"
#include "net/judge.h"
#include "net/keeper_internal.h"
#include "net/keeper_receipt.h"
#include "net/keeper_ticket.h"
#include "net/keycheck.h"
#include "p11/observe.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

enum { COMPLAINTS_MAX = 16 };

void chv_keeper_master(uint32_t epoch, char label[CHV_KEEPER_LABEL_SIZE])
{
    snprintf(label, CHV_KEEPER_LABEL_SIZE, "master:%" PRIu32, epoch);
}

/* A keystore says whose it is: under another name every derived key would be wrong. */
static enum chv_err check_server(struct chv_keystore *keystore, const char *name, struct chv_why *why)
{
    uint8_t text[CHV_SERVER_NAME_MAX];
    size_t len = sizeof text;
    enum chv_err err = chv_keystore_data_get(keystore, "server", text, &len, why);
    if (err == CHV_ERR_NOT_FOUND)
        return CHV_OK;
    if (err == CHV_OK && (len != strlen(name) || memcmp(text, name, len) != 0))
        err = chv_fail(why, CHV_ERR_CONFIG, "the keystore is of the server '%.*s', the configuration says name = %s",
                       (int)len, (const char *)text, name);
    return err;
}

bool chv_keeper_has_token(const struct chv_server_config *config)
{
    return strncmp(config->keystore, "pkcs11:", strlen("pkcs11:")) == 0;
}

enum chv_err chv_keeper_configure(struct chv_keeper *keeper, const struct chv_server_config *config,
                                  struct chv_why *why)
{
    if (keeper->server[0] != '\0' && strcmp(keeper->server, config->name) != 0)
        return chv_fail(why, CHV_ERR_CONFIG, "the server name cannot change while clients are connected");
    for (size_t i = 0; i < config->epoch_count; i++) {
        enum chv_err err = chv_keycheck(keeper->keystore, config->epochs[i], config->checks, config->check_count, why);
        keeper->lacks = err == CHV_ERR_CONFIG;
        if (err != CHV_OK)
            return err;
    }
    chv_keycheck_log(config);
    memcpy(keeper->server, config->name, sizeof keeper->server);
    memcpy(keeper->epochs, config->epochs, sizeof keeper->epochs);
    keeper->epoch_count = config->epoch_count;
    memcpy(keeper->checks, config->checks, sizeof keeper->checks);
    keeper->check_count = config->check_count;
    keeper->max_lifetime = config->max_lifetime;
    keeper->update = config->update;
    keeper->update_to = config->update_to;
    keeper->successor = chv_server_successor(config);
    keeper->tickets[CHV_TICKET_RESUMPTION] = config->tickets;
    keeper->tickets[CHV_TICKET_DATA] = chv_server_has_two_ports(config);
    memcpy(keeper->ticket_audience, config->ticket_audience, sizeof keeper->ticket_audience);
    return CHV_OK;
}

static void note(struct chv_keeper *keeper, uint64_t now, enum chv_log_level level, const char *text)
{
    bool same_second = now == keeper->complained;
    if (same_second && (keeper->complaints >= COMPLAINTS_MAX || strcmp(text, keeper->complaint) == 0))
        return;
    keeper->complaints = same_second ? keeper->complaints + 1 : 1;
    (void)snprintf(keeper->complaint, sizeof keeper->complaint, "%s", text);
    keeper->complained = now;
    chv_log(level, "%s", text);
}

static void complain(struct chv_keeper *keeper, uint64_t now, const char *text)
{
    note(keeper, now, CHV_LOG_ERROR, text);
}

/* A token's way back is told as it goes; there is one keeper in a process. */
static struct chv_keeper *watched;

static void on_step(const char *text)
{
    if (watched != NULL)
        note(watched, watched->asked, CHV_LOG_WARNING, text);
    else
        chv_log(CHV_LOG_WARNING, "%s", text);
}

static const char identity_label[] = "identity";

static enum chv_err take_identity(struct chv_keeper *keeper, const struct chv_server_config *config,
                                  struct chv_server_identity *identity, struct chv_why *why)
{
    memset(identity, 0, sizeof *identity);
    if (!chv_server_wants_identity(config))
        return CHV_OK;
    enum chv_err err =
        chv_keystore_public_key(keeper->keystore, identity_label, &identity->curve, identity->public_key, why);
    if (err == CHV_ERR_NOT_FOUND)
        return chv_fail(
            why, CHV_ERR_CONFIG,
            "profiles key and key+psk need the server's identity key, which the keystore does not have: run "
            "'keyadmin identity new --server'");
    identity->there = err == CHV_OK;
    keeper->has_identity = identity->there;
    keeper->identity_curve = identity->curve;
    return err;
}

enum chv_err chv_keeper_open(struct chv_keeper *keeper, const struct chv_server_config *config, chv_secret_fn secret,
                             void *secret_arg, struct chv_server_identity *identity, struct chv_why *why)
{
    const struct chv_keystore_options options = {.mode = CHV_KEYSTORE_READ, .lock_seconds = 10};
    *keeper = (struct chv_keeper){.mark = {.folder = -1}};
    chv_p11_observe(on_step);
    enum chv_err err = chv_keystore_open(config->keystore, &options, &keeper->keystore, why);
    if (err != CHV_OK)
        return err;
    err = chv_keystore_unlock(keeper->keystore, secret, secret_arg, why);
    if (err == CHV_OK)
        err = chv_backend_open("openssl", &keeper->crypto, why); /* here, before files are out of reach */
    if (err == CHV_OK)
        err = check_server(keeper->keystore, config->name, why);
    if (err == CHV_OK)
        err = chv_keeper_configure(keeper, config, why);
    if (err == CHV_OK)
        err = take_identity(keeper, config, identity, why);
    if (err == CHV_OK)
        err = chv_keeper_receipt_open(keeper, config, why);
    if (err != CHV_OK)
        chv_keeper_close(keeper);
    return err;
}

void chv_keeper_close(struct chv_keeper *keeper)
{
    chv_p11_observe(NULL);
    watched = NULL;
    if (keeper->receipt_keystore != keeper->keystore)
        chv_keystore_close(keeper->receipt_keystore);
    chv_keystore_close(keeper->keystore);
    keeper->keystore = keeper->receipt_keystore = NULL;
    chv_backend_close(&keeper->crypto);
    chv_clockmark_close(&keeper->mark);
}

enum chv_keeper_verdict chv_keeper_judge(const struct chv_keeper *keeper, uint64_t now, const struct chv_credential *c)
{
    return chv_judge(keeper->epochs, keeper->epoch_count, keeper->max_lifetime, now, c);
}

static bool random_bytes(uint8_t *out, size_t len)
{
    return getrandom(out, len, 0) == (ssize_t)len;
}

static enum chv_err derive_psk(struct chv_keeper *keeper, const struct chv_keeper_request *request, uint32_t epoch,
                               uint8_t psk[CHV_KEY_LEN], struct chv_why *why)
{
    uint8_t access[CHV_INFO_MAX], session[CHV_INFO_MAX];
    size_t access_len, session_len;
    char label[CHV_KEEPER_LABEL_SIZE];
    chv_keeper_master(epoch, label);
    enum chv_err err = chv_info_access(request->credential, request->credential_len, access, &access_len);
    if (err == CHV_OK)
        err = chv_info_session(keeper->server, request->h_psk, request->h_psk_len, session, &session_len);
    if (err == CHV_OK)
        err = chv_keystore_derive2(keeper->keystore, label, access, access_len, session, session_len, psk, why);
    return err;
}

bool chv_keeper_well_formed(const struct chv_keeper *keeper, const struct chv_keeper_request *request,
                            struct chv_credential *credential)
{
    const bool served =
        request->profile == CHV_PROFILE_PSK || (request->profile == CHV_PROFILE_KEY_PSK && keeper->has_identity);
    return served && request->curve == 0 && request->zero2 == 0 && request->h_psk_len >= 32 &&
           request->h_psk_len <= CHV_H_PSK_MAX && request->credential_len <= CHV_CREDENTIAL_MAX &&
           chv_credential_parse(request->credential, request->credential_len, credential, NULL) == CHV_OK &&
           credential->profile == request->profile;
}

void chv_keeper_keystore_says(struct chv_keeper *keeper, uint64_t now, enum chv_err err, struct chv_why *why)
{
    const bool ok = err == CHV_OK;
    if (ok && keeper->failing)
        chv_log(CHV_LOG_INFO, "the keystore answers again");
    keeper->failing = !ok;
    keeper->refused = err == CHV_ERR_PASSPHRASE;
    if (ok)
        return;
    if (why->text[0] == '\0')
        (void)chv_fail(why, err, "keystore: %s", chv_err_text(err));
    complain(keeper, now, why->text);
}

static void answer_psk(struct chv_keeper *keeper, uint64_t now, const struct chv_keeper_request *request,
                       struct chv_keeper_answer *answer)
{
    struct chv_credential credential;
    struct chv_why why = {""};
    if (!chv_keeper_well_formed(keeper, request, &credential))
        return;
    enum chv_keeper_verdict verdict = chv_keeper_judge(keeper, now, &credential);
    bool ok;
    if (verdict == CHV_KEEPER_EPOCH) {
        ok = random_bytes(answer->psk, sizeof answer->psk);
        if (!ok)
            complain(keeper, now, "no random bytes");
    } else {
        enum chv_err err = derive_psk(keeper, request, credential.epoch, answer->psk, &why);
        ok = err == CHV_OK;
        chv_keeper_keystore_says(keeper, now, err, &why);
    }
    answer->status = ok ? CHV_KEEPER_OK : CHV_KEEPER_UNAVAILABLE;
    answer->verdict = ok ? (uint16_t)verdict : 0;
}

/* A point that is none is the client's fault and says nothing about the key; nothing is logged here. */
static void answer_dh(struct chv_keeper *keeper, uint64_t now, const struct chv_keeper_request *request,
                      struct chv_keeper_answer *answer)
{
    struct chv_why why = {""};
    if (!keeper->has_identity || request->curve != (uint8_t)keeper->identity_curve || request->h_psk_len != 0 ||
        (request->profile != CHV_PROFILE_KEY && request->profile != CHV_PROFILE_KEY_PSK) || request->zero2 != 0 ||
        request->point_len != chv_dh_public_len(keeper->identity_curve))
        return;
    enum chv_err err = chv_keystore_dh(keeper->keystore, identity_label, request->point, answer->psk, &why);
    if (err == CHV_ERR_MALFORMED)
        return;
    chv_keeper_keystore_says(keeper, now, err, &why);
    answer->status = err == CHV_OK ? CHV_KEEPER_OK : CHV_KEEPER_UNAVAILABLE;
}

static void answer_one(struct chv_keeper *keeper, uint64_t now, const struct chv_keeper_request *request,
                       struct chv_keeper_answer *answer)
{
    *answer = (struct chv_keeper_answer){.tag = request->tag, .status = CHV_KEEPER_MALFORMED};
    if (request->kind == CHV_KEEPER_PSK)
        answer_psk(keeper, now, request, answer);
    else if (request->kind == CHV_KEEPER_DH)
        answer_dh(keeper, now, request, answer);
    if (answer->status != CHV_KEEPER_OK)
        chv_wipe(answer->psk, sizeof answer->psk);
}

enum chv_err chv_keeper_begin(struct chv_keeper *keeper, uint64_t now)
{
    struct chv_why why = {""};
    keeper->asked = now;
    watched = keeper;
    enum chv_err clock = chv_clockmark_check(&keeper->mark, now, &why);
    if (clock != CHV_OK)
        complain(keeper, now, why.text);
    return clock;
}

void chv_keeper_watch_clock(struct chv_keeper *keeper, uint64_t now)
{
    struct chv_why why = {""};
    if (chv_clockmark_check(&keeper->mark, now, &why) != CHV_OK)
        complain(keeper, now, why.text);
}

enum chv_err chv_keeper_answer(struct chv_keeper *keeper, uint64_t now, const void *packet, size_t len,
                               struct chv_keeper_answer answers[CHV_KEEPER_BATCH], size_t *count)
{
    size_t n = len / sizeof(struct chv_keeper_request);
    if (n == 0 || n > CHV_KEEPER_BATCH || len % sizeof(struct chv_keeper_request) != 0)
        return CHV_ERR_MALFORMED;
    enum chv_err clock = chv_keeper_begin(keeper, now);
    for (size_t i = 0; i < n; i++) {
        struct chv_keeper_request request;
        memcpy(&request, (const uint8_t *)packet + i * sizeof request, sizeof request);
        if (clock == CHV_ERR_UNAVAILABLE)
            answers[i] = (struct chv_keeper_answer){.tag = request.tag, .status = CHV_KEEPER_UNAVAILABLE};
        else
            answer_one(keeper, now, &request, &answers[i]);
    }
    *count = n;
    return CHV_OK;
}
