/* SPDX-License-Identifier: Apache-2.0 */
/* The client's connection: key, loop, attempts with back-off, deadlines, exit codes. */
#include "tools/chaveiro.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "base/encode.h"
#include "base/memory.h"
#include "tools/provision.h"
#include "tools/times.h"
#include "tools/token.h"

enum {
    LINK_RETRIES = 4,
    LINK_RETRIES_MAX = 10,
    LINK_BACKOFF_MS = 250,      /* before the first retry; doubled each time */
    LINK_BACKOFF_MAX_MS = 4000, /* and never longer than this */
    LINK_AGAIN_STEPS = 5,       /* pauses of a job that goes on: doubled so often, */
    LINK_AGAIN_MORE = 14,       /* then longer by the last one each time, so often */
    LINK_POOL = 16 << 20,
    LINK_TEXT_MAX = 1024,
    LINK_SIGNAL_EXIT = 128 /* as a shell tells of a signal */
};

static const char link_timeout[] = "30s";
static const char link_backend[] = "openssl";

/* doc/protocol.md, section 6: one text for every reason why message 2 does not open. */
static const char link_unproven[] =
    "the server cannot prove that it knows this key (wrong key, wrong server name or retired epoch)";

/* --- ending --------------------------------------------------------------------------------------------------------
 */

static void link_set_failed(struct chaveiro_link *link, int code)
{
    link->failed = true;
    link->code = code;
    if (link->message != NULL)
        chv_message_abort(link->message);
    else {
        /* Between two connections of a job that goes on: its handles are open, and nothing else will tell it. */
        if (link->job != NULL && link->job->again != NULL && link->job->over != NULL)
            link->job->over(link);
        link->over = true;
        uv_stop(&link->loop.uv);
    }
}

void chaveiro_fail(struct chaveiro_link *link, int code, const char *format, ...)
{
    char text[LINK_TEXT_MAX];
    va_list list;
    if (link->failed)
        return;
    va_start(list, format);
    (void)vsnprintf(text, sizeof text, format, list);
    va_end(list);
    link_set_failed(link, chv_cli_fail(code, "%s", text));
}

void chaveiro_fail_why(struct chaveiro_link *link, enum chv_err err, const struct chv_why *why)
{
    if (!link->failed)
        link_set_failed(link, chv_cli_why(err, why));
}

void chaveiro_interrupt(struct chaveiro_link *link, int number)
{
    if (!link->failed)
        link_set_failed(link, LINK_SIGNAL_EXIT + number);
}

void chaveiro_finish(struct chaveiro_link *link)
{
    chaveiro_due(link, true); /* the server's CLOSE */
    if (link->message != NULL)
        chv_message_close(link->message);
}

static void link_on_timer(uv_timer_t *timer)
{
    struct chaveiro_link *link = timer->data;
    if (link->job->again != NULL && link->message != NULL) {
        chv_conn_explain(chv_message_conn(link->message), "%s: no answer", link->address);
        chv_message_abort(link->message);
        return;
    }
    chaveiro_fail(link, EX_UNAVAILABLE, "%s: no answer within %" PRIu64 "%s", link->address,
                  link->timeout % 1000 == 0 ? link->timeout / 1000 : link->timeout,
                  link->timeout % 1000 == 0 ? " s" : " ms");
}

void chaveiro_due(struct chaveiro_link *link, bool due)
{
    (void)uv_timer_stop(&link->timer);
    if (due)
        (void)uv_timer_start(&link->timer, link_on_timer, link->timeout, 0);
}

/* Exit code of a number of section 6, in clear or in the channel. */
static int link_status_exit(unsigned code)
{
    switch (code) {
    case 403:
        return EX_NOPERM;
    case 409:
    case 429:
    case 500:
    case 502:
    case 503:
    case 504:
    case 507:
        return EX_UNAVAILABLE;
    case 404:
        return EX_CONFIG;
    default:
        return EX_PROTOCOL;
    }
}

/* As chv_cli_exit_code, for an error of the connection: a key is proven by now, and what cannot be reached is not
 * there. */
static int link_exit(enum chv_err err, bool ready)
{
    if (err == CHV_ERR_AUTH)
        return EX_PROTOCOL;
    if (err == CHV_ERR_CANCELLED)
        return EX_IOERR; /* what is to be sent cannot be read, or nobody takes what comes */
    if ((err == CHV_ERR_IO || err == CHV_ERR_NOT_FOUND) && !ready)
        return EX_UNAVAILABLE;
    return chv_cli_exit_code(err);
}

void chaveiro_report(struct chaveiro_link *link, enum chv_err err, const char *text, unsigned refusal, unsigned status,
                     bool unproven)
{
    char print[CHV_FINGERPRINT_MAX];
    const bool pinned = link->key.profile != CHV_PROFILE_PSK;
    link->failed = true;
    if (pinned && !link->ready &&
        (refusal == CHV_REFUSE_MALFORMED || (unproven && link->key.profile == CHV_PROFILE_KEY)))
        link->code = chv_cli_fail(
            EX_NOPERM,
            "%s does not have the identity key that is expected of it, %s: its key was changed, or somebody else is in "
            "between. Have the server's fingerprint told to you by another way ('keyadmin identity fingerprint "
            "server.pub' there); only if the change was meant, give the new server.pub by --server-key",
            link->address, chaveiro_fingerprint(link, &link->key.server_key, print));
    else if (pinned && unproven)
        link->code = chv_cli_fail(EX_NOPERM, "%s; or it does not have the identity key that is expected of it, %s",
                                  link_unproven, chaveiro_fingerprint(link, &link->key.server_key, print));
    else if (refusal == CHV_REFUSE_UNKNOWN_KEY && link->key.profile == CHV_PROFILE_KEY)
        link->code = chv_cli_fail(EX_NOPERM,
                                  "%s does not let this identity key in (403), %s: its line has to be in the server's "
                                  "allowed-keys ('keyadmin identity show' prints it)",
                                  link->address, chaveiro_fingerprint(link, &link->key.identity, print));
    else if (unproven)
        link->code = chv_cli_fail(EX_NOPERM, "%s", link_unproven);
    else if (refusal != 0)
        link->code = chv_cli_fail(link_status_exit(refusal), "%s", text[0] != 0 ? text : chv_err_text(err));
    else if (err == CHV_ERR_REFUSED && status != 0)
        link->code = chv_cli_fail(link_status_exit(status), "%s", text[0] != 0 ? text : chv_err_text(err));
    else
        link->code = chv_cli_fail(link_exit(err, link->ready), "%s", text[0] != 0 ? text : chv_err_text(err));
}

/* --- attempts ------------------------------------------------------------------------------------------------------
 */

static void link_attempt(struct chaveiro_link *link);

static void link_on_backoff(uv_timer_t *timer)
{
    link_attempt(timer->data);
}

/* Each cut by up to a half at random so that a fleet does not come back as one. */
uint64_t chaveiro_backoff(struct chaveiro_link *link, unsigned attempt)
{
    uint8_t random[2] = {0, 0};
    uint64_t ms = (uint64_t)LINK_BACKOFF_MS << (attempt - 1);
    if (ms > LINK_BACKOFF_MAX_MS)
        ms = LINK_BACKOFF_MAX_MS;
    if (chv_crypto_random(&link->loop.crypto, random, sizeof random) != CHV_OK)
        return ms;
    return ms - ms / 2 * ((unsigned)random[0] << 8 | random[1]) / UINT16_MAX;
}

/* Too busy, and nothing was sent yet: the one thing that a refusal, which anyone can forge, may lead to. */
static bool link_retries(struct chaveiro_link *link, unsigned code)
{
    if ((code != CHV_REFUSE_RATE && code != CHV_REFUSE_UNAVAILABLE) || link->ready || link->failed ||
        link->attempt > link->retries)
        return false;
    uint64_t ms = chaveiro_backoff(link, link->attempt);
    if (chv_cli_given(link->args, "verbose"))
        (void)chv_cli_fail(EX_OK, "%s: refused with %u, trying again in %" PRIu64 " ms", link->address, code, ms);
    (void)uv_timer_start(&link->timer, link_on_backoff, ms, 0);
    return true;
}

/*
 * For a job that goes on: what a moment later may be better. A refusal in clear, which anyone can forge, ends it only
 * before the server was ever there.
 */
static bool link_may_pass(const struct chaveiro_link *link, enum chv_err err, unsigned refusal, unsigned status,
                          bool unproven)
{
    if (unproven)
        return false;
    if (refusal != 0)
        return link->was_ready || refusal == CHV_REFUSE_RATE || refusal == CHV_REFUSE_UNAVAILABLE;
    if (err == CHV_ERR_REFUSED)
        return status == 408 || status == 409 || status == 429 || status >= 500;
    return err != CHV_ERR_PROTOCOL && err != CHV_ERR_MALFORMED && err != CHV_ERR_MEMORY;
}

static void link_again(struct chaveiro_link *link, enum chv_err err, const char *text)
{
    if (link->ready)
        link->attempt = 1; /* the pauses begin anew */
    link->ready = false;
    const unsigned steps = link->attempt < LINK_AGAIN_STEPS ? link->attempt : LINK_AGAIN_STEPS;
    const unsigned more = link->attempt - steps < LINK_AGAIN_MORE ? link->attempt - steps : LINK_AGAIN_MORE;
    const uint64_t ms = chaveiro_backoff(link, steps) * (1 + more);
    (void)chv_cli_fail(EX_OK, "%s: trying again in %" PRIu64 " ms", text[0] != 0 ? text : chv_err_text(err), ms);
    (void)uv_timer_start(&link->timer, link_on_backoff, ms, 0);
}

static void link_on_closed(struct chv_message *message, enum chv_err err, const char *text)
{
    struct chaveiro_link *link = chv_message_owner(message);
    const unsigned refusal = chv_message_refusal(message), status = chv_message_status(message);
    const bool unproven = chv_message_unproven(message, err);
    link->message = NULL;
    (void)uv_timer_stop(&link->timer);
    if (err != CHV_OK && link_retries(link, refusal != 0 ? refusal : status))
        return;
    if (!link->ready && !link->failed &&
        ((unproven && chaveiro_update_fall_back(link)) ||
         ((unproven || status == CHV_REFUSE_UNKNOWN_KEY) && chaveiro_update_catch_up(link)))) {
        link->attempt--; /* no retry: another key */
        (void)uv_timer_start(&link->timer, link_on_backoff, 0, 0);
        return;
    }
    if (err != CHV_OK && !link->failed && link->job->again != NULL &&
        link_may_pass(link, err, refusal, status, unproven) && link->job->again(link) && !link->failed) {
        link_again(link, err, text);
        return;
    }
    if (link->job->over != NULL)
        link->job->over(link); /* gives the terminal back before anything is said */
    if (err != CHV_OK && !link->failed)
        chaveiro_report(link, err, text, refusal, status, unproven);
    link->over = true;
    uv_stop(&link->loop.uv);
}

const char *chaveiro_where(const struct chaveiro_link *link, struct chv_message *message, char out[CHAVEIRO_WHERE_MAX])
{
    const bool redirected = chv_message_redirected(message) != 0;
    (void)snprintf(out, CHAVEIRO_WHERE_MAX, "%s%s%s%s", chv_conn_peer(chv_message_conn(message)),
                   redirected ? ", redirected by " : "", redirected ? link->address : "",
                   chv_message_resumed(message) ? " (resumed)" : "");
    return out;
}

static void link_tell(struct chaveiro_link *link)
{
    char lineage[CHV_HEX_SIZE(CHV_LINEAGE_LEN)] = "-", when[CHV_TIME_TEXT], where[CHAVEIRO_WHERE_MAX];
    struct chv_session_info info;
    if (chv_session_get_info(chv_conn_session(chv_message_conn(link->message)), &info) != CHV_OK)
        return;
    if (info.lineage != NULL)
        chv_hex_encode(info.lineage, CHV_LINEAGE_LEN, lineage);
    chv_time_format(info.server_time, when);
    (void)chaveiro_where(link, link->message, where);
    if (info.profile == CHV_PROFILE_KEY) {
        char own[CHV_FINGERPRINT_MAX], server[CHV_FINGERPRINT_MAX];
        (void)chv_cli_fail(EX_OK,
                           "connected to %s as %s: profile key, suite %s, lineage %s, server's key %s, "
                           "server time %s, idle limit %u s",
                           where, chaveiro_fingerprint(link, &link->key.identity, own), chv_suite_name(info.suite),
                           lineage, chaveiro_fingerprint(link, &link->key.server_key, server), when, info.idle_seconds);
        return;
    }
    (void)chv_cli_fail(EX_OK,
                       "connected to %s as %s: profile %s, suite %s, lineage %s, credential %" PRIu32 ".%" PRIu32
                       ", server %s, server time %s, idle limit %u s",
                       where, link->key.parsed.id, chv_profile_name(info.profile), chv_suite_name(info.suite), lineage,
                       link->key.parsed.epoch, link->key.parsed.serial, link->key.server, when, info.idle_seconds);
}

static void link_on_ready(struct chv_message *message)
{
    struct chaveiro_link *link = chv_message_owner(message);
    link->ready = link->was_ready = true;
    chaveiro_due(link, false);
    if (chv_cli_given(link->args, "verbose"))
        link_tell(link);
    if (!chv_message_resumed(message)) /* else the key was not shown now */
        chaveiro_update_proven(link);
    link->job->ready(link);
}

static bool link_on_update(struct chv_message *message, const uint8_t *body, size_t len)
{
    return chaveiro_update(chv_message_owner(message), body, len);
}

static void link_on_sent(struct chv_message *message)
{
    struct chaveiro_link *link = chv_message_owner(message);
    if (link->job->sent != NULL)
        link->job->sent(link);
}

static void link_on_reply(struct chv_message *message, const uint8_t *data, size_t len)
{
    struct chaveiro_link *link = chv_message_owner(message);
    if (uv_is_active((uv_handle_t *)&link->timer))
        chaveiro_due(link, true); /* progress */
    if (link->job->reply != NULL)
        link->job->reply(link, data, len);
}

static void link_on_reply_end(struct chv_message *message)
{
    struct chaveiro_link *link = chv_message_owner(message);
    chaveiro_due(link, false);
    if (link->job->reply_end != NULL)
        link->job->reply_end(link);
}

static void link_on_pong(struct chv_message *message, uint64_t microseconds)
{
    struct chaveiro_link *link = chv_message_owner(message);
    chaveiro_due(link, false);
    if (link->job->pong != NULL)
        link->job->pong(link, microseconds);
}

static const struct chv_message_events link_events = {
    .ready = link_on_ready,
    .sent = link_on_sent,
    .reply = link_on_reply,
    .reply_end = link_on_reply_end,
    .pong = link_on_pong,
    .update = link_on_update,
    .closed = link_on_closed,
};

static enum chv_err link_on_record(struct chv_message *message, uint8_t type, const uint8_t *body, size_t len)
{
    struct chaveiro_link *link = chv_message_owner(message);
    if (uv_is_active((uv_handle_t *)&link->timer))
        chaveiro_due(link, true); /* progress */
    return link->job->record(link, type, body, len);
}

static void link_on_drained(struct chv_message *message)
{
    struct chaveiro_link *link = chv_message_owner(message);
    if (uv_is_active((uv_handle_t *)&link->timer))
        chaveiro_due(link, true);
    if (link->ready)
        link->job->drained(link);
}

static void link_on_batch(struct chv_message *message)
{
    struct chaveiro_link *link = chv_message_owner(message);
    if (link->job->batch != NULL)
        link->job->batch(link);
}

static const struct chv_message_events link_files_events = {
    .service = "files",
    .record = link_on_record,
    .batch = link_on_batch,
    .drained = link_on_drained,
    .ready = link_on_ready,
    .pong = link_on_pong,
    .update = link_on_update,
    .closed = link_on_closed,
};

static void link_attempt(struct chaveiro_link *link)
{
    struct chv_why why = {""};
    link->attempt++;
    link->started = uv_hrtime();
    link->events = link->job->record != NULL ? link_files_events : link_events;
    if (link->job->service != NULL)
        link->events.service = link->job->service;
    link->events.tunnel = link->job->tunnel;
    enum chv_err err =
        chv_message_connect(&link->loop, link->address, &link->key, &link->events, link, &link->message, &why);
    if (err != CHV_OK)
        chaveiro_fail_why(link, err, &why);
    else
        chaveiro_due(link, true);
}

/* --- starting ------------------------------------------------------------------------------------------------------
 */

static enum chv_err link_suite(const struct chv_cli_args *args, enum chv_suite *suite, struct chv_why *why)
{
    const char *name = chv_cli_value(args, "suite");
    if (name == NULL || chv_suite_find(name, suite) == CHV_OK)
        return CHV_OK;
    return chv_fail(why, CHV_ERR_ARGUMENT, "unknown suite '%.60s': there are %s, %s and %s", name,
                    chv_suite_name(CHV_SUITE_X25519_AESGCM_SHA256), chv_suite_name(CHV_SUITE_X25519_CHACHAPOLY_SHA256),
                    chv_suite_name(CHV_SUITE_P256_AESGCM_SHA256));
}

/* A token, and its URI does not say by which module. */
static bool link_wants_module(const char *uri)
{
    return uri != NULL && chv_token_uri_is(uri) && strstr(uri, "module-path=") == NULL;
}

/* Options that need no file. */
static enum chv_err link_options(const struct chv_cli_args *args, struct chaveiro_link *link, struct chv_why *why)
{
    const char *timeout = chv_cli_value(args, "timeout");
    uint64_t retries = 0;
    link->address = chv_cli_value(args, "server");
    enum chv_err err = chv_time_span(timeout != NULL ? timeout : link_timeout, &link->timeout, why);
    if (err == CHV_OK)
        err = chv_cli_number(args, "retries", 0, LINK_RETRIES_MAX, LINK_RETRIES, &retries, why);
    if (err == CHV_OK)
        err = link_suite(args, &(enum chv_suite){0}, why);
    if (err == CHV_OK && link->address != NULL)
        err = chv_provision_address(link->address, why);
    /* The user's own file is for those who say nothing else. */
    if (err == CHV_OK &&
        (chv_cli_given(args, "config") || (!chv_cli_given(args, "key") && !chv_cli_given(args, "identity"))))
        err = chv_client_config_load(chv_cli_value(args, "config"), &link->config, why);
    if (err == CHV_OK && chv_cli_given(args, "module") && !link_wants_module(chv_cli_value(args, "key")) &&
        !link_wants_module(chv_cli_value(args, "backend")) && !link_wants_module(chv_cli_value(args, "identity")) &&
        !link_wants_module(link->config.keystore) && !link_wants_module(link->config.identity))
        err = chv_fail(
            why, CHV_ERR_ARGUMENT,
            "--module: neither key, identity nor backend is a token whose URI has no module-path: leave it out");
    link->retries = (unsigned)retries;
    return err;
}

static enum chv_err link_open_loop(const struct chv_cli_args *args, struct chaveiro_link *link, struct chv_why *why)
{
    const char *backend = chv_cli_value(args, "backend");
    char spec[CHV_TOKEN_URI_SIZE];
    unsigned seconds = (unsigned)((link->timeout + 999) / 1000);
    const struct chv_loop_limits limits = {.handshake_seconds = seconds, .idle_seconds = 0, .stall_seconds = seconds};
    link->pool.limit = LINK_POOL;
    enum chv_err err =
        chv_token_uri_default(backend != NULL ? backend : link_backend, chv_cli_value(args, "module"), spec, why);
    if (err == CHV_OK)
        err = chv_loop_init(&link->loop, spec, &link->pool, &limits, why);
    if (err != CHV_OK)
        return err;
    (void)uv_timer_init(&link->loop.uv, &link->timer);
    link->timer.data = link;
    return CHV_OK;
}

enum chv_err chaveiro_open(const struct chv_cli_args *args, struct chaveiro_link **out, struct chv_why *why)
{
    struct chaveiro_link *link = calloc(1, sizeof *link);
    if (link == NULL)
        return CHV_ERR_MEMORY;
    link->args = args;
    enum chv_err err = link_options(args, link, why);
    if (err == CHV_OK)
        err = chaveiro_open_key(link, why);
    if (err == CHV_OK)
        err = link_open_loop(args, link, why);
    if (err == CHV_OK)
        link->has_loop = true;
    if (err == CHV_OK)
        err = chv_client_key_ready(&link->key, &link->loop.crypto, why);
    if (err == CHV_OK)
        err = chaveiro_open_tickets(link, why);
    if (err != CHV_OK)
        chaveiro_close(link);
    else
        *out = link;
    return err;
}

void chaveiro_close(struct chaveiro_link *link)
{
    if (link->has_loop) {
        uv_close((uv_handle_t *)&link->timer, NULL);
        chv_loop_close(&link->loop);
    }
    chv_ticket_store_close(link->key.tickets);
    chv_keystore_close(link->identity);
    chv_keystore_close(link->keystore);
    chaveiro_secret_free(&link->key_secret);
    chv_wipe(link, sizeof *link);
    free(link);
}

void chaveiro_link_wait(struct chaveiro_link *link, const bool *until)
{
    while (!*until && !link->over && uv_run(&link->loop.uv, UV_RUN_ONCE) != 0)
        continue;
}

int chaveiro_link_connect(struct chaveiro_link *link)
{
    link->over = link->failed = link->ready = false;
    link->attempt = 0;
    link->code = EX_OK;
    link_attempt(link);
    chaveiro_link_wait(link, &link->ready);
    return link->over ? link->code : EX_OK;
}

int chaveiro_run(const struct chv_cli_args *args, const struct chaveiro_job *job, void *state)
{
    const bool never = false;
    struct chv_why why = {""};
    struct chaveiro_link *link = NULL;
    enum chv_err err = chaveiro_open(args, &link, &why);
    if (err != CHV_OK)
        return chv_cli_why(err, &why);
    link->job = job;
    link->state = state;
    if (job->again != NULL)
        chaveiro_keep_tickets(link, CHV_TICKET_STORE_WANTED);
    if (chaveiro_link_connect(link) == EX_OK)
        chaveiro_link_wait(link, &never);
    const int code = link->code;
    chaveiro_close(link);
    return code;
}
