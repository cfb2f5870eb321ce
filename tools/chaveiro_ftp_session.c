/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sessions with the server, one for each FTP client that has logged in. Handshakes go one at a time: which key is
 * tried, and the keystore that it is in, are the same for all.
 */
#include "tools/chaveiro_ftp.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

struct ftp_session {
    struct ftp_door *door;
    struct ftp_client *client; /* NULL: nobody's any more */
    struct ftp_session *next;  /* in door->waiting */
    struct chv_message *message;
    struct chv_client_key key; /* as it was when the handshake began */
    struct chv_files_client files;
    bool ready;
    unsigned attempt;
    unsigned idle_seconds; /* the server's limit, 0: none */
    uint64_t active;       /* uv_hrtime of the last ping */
    uint64_t pinged;       /* the same, of one without an answer; 0: none is out */
};

static void attempt(struct ftp_session *s);

static void session_free(struct ftp_session *s)
{
    struct ftp_door *door = s->door;
    door->session_count--;
    chv_wipe(s, sizeof *s);
    free(s);
    ftp_settle(door);
}

void ftp_session_next(struct ftp_door *door)
{
    if (door->connecting != NULL || door->waiting == NULL)
        return;
    struct ftp_session *s = door->waiting;
    door->waiting = s->next;
    door->connecting = s;
    attempt(s);
}

static void on_retry(uv_timer_t *timer)
{
    struct ftp_door *door = timer->data;
    if (door->connecting != NULL)
        attempt(door->connecting);
}

/* --- what the server sends ---------------------------------------------------------------------------------------- */

static void on_answer(void *arg, const struct chv_files_answer *answer)
{
    struct ftp_session *s = arg;
    if (s->client != NULL && s->client->answered != NULL)
        s->client->answered(s->client, answer);
}

static void on_data(void *arg, const uint8_t *data, size_t len)
{
    struct ftp_session *s = arg;
    if (s->client != NULL)
        ftp_transfer_data(s->client, data, len);
}

static void on_end(void *arg, const uint8_t *digest)
{
    struct ftp_session *s = arg;
    if (s->client != NULL)
        ftp_transfer_end(s->client, digest);
}

static void on_working(void *arg)
{
    struct ftp_session *s = arg;
    if (s->client != NULL && s->client->answered != NULL)
        ftp_timer(s->client, s->door->link->timeout, s->client->timed_out);
}

static const struct chv_files_events files_events = {
    .answer = on_answer, .working = on_working, .data = on_data, .end = on_end};

static enum chv_err on_record(struct chv_message *message, uint8_t type, const uint8_t *body, size_t len)
{
    struct ftp_session *s = chv_message_owner(message);
    return s->client != NULL ? chv_files_client_record(&s->files, type, body, len) : CHV_OK;
}

static void on_drained(struct chv_message *message)
{
    struct ftp_session *s = chv_message_owner(message);
    if (s->client != NULL && s->ready)
        ftp_transfer_sent(s->client);
}

static void on_pong(struct chv_message *message, uint64_t microseconds)
{
    struct ftp_session *s = chv_message_owner(message);
    (void)microseconds;
    s->pinged = 0;
}

static bool on_update(struct chv_message *message, const uint8_t *body, size_t len)
{
    struct ftp_session *s = chv_message_owner(message);
    const bool stored = chaveiro_update_of(s->door->link, message, &s->key, body, len);
    s->door->stored = s->door->stored || stored;
    return stored;
}

static void on_ready(struct chv_message *message)
{
    struct ftp_session *s = chv_message_owner(message);
    struct ftp_door *door = s->door;
    struct chv_session_info info;
    s->ready = true;
    s->active = uv_hrtime();
    if (chv_session_get_info(chv_conn_session(chv_message_conn(message)), &info) == CHV_OK)
        s->idle_seconds = info.idle_seconds;
    chv_files_client_init(&s->files, chv_message_conn(message), &files_events, s);
    chaveiro_update_proven(door->link);
    door->connecting = NULL;
    if (s->client != NULL) {
        if (chv_cli_given(door->link->args, "verbose"))
            (void)chv_cli_fail(0, "%s: connected to %s", s->client->peer_text,
                               chv_conn_peer(chv_message_conn(message)));
        ftp_session_ready(s->client);
    }
    ftp_session_next(door);
}

/* --- its end ------------------------------------------------------------------------------------------------------ */

/* Another key or, if the server was too busy, another time: true if the session goes on with that. */
static bool tries_again(struct ftp_session *s, unsigned code, bool unproven)
{
    struct chaveiro_link *link = s->door->link;
    if (s->client == NULL)
        return false;
    if ((unproven && chaveiro_update_fall_back(link)) ||
        ((unproven || code == CHV_REFUSE_UNKNOWN_KEY) && chaveiro_update_catch_up(link))) {
        (void)uv_timer_start(&s->door->retry, on_retry, 0, 0);
        return true;
    }
    if ((code != CHV_REFUSE_RATE && code != CHV_REFUSE_UNAVAILABLE) || ++s->attempt > link->retries)
        return false;
    (void)uv_timer_start(&s->door->retry, on_retry, chaveiro_backoff(link, s->attempt), 0);
    return true;
}

/* The client is told, and so is who runs the door. */
static void refused(struct ftp_session *s, enum chv_err err, const char *text, unsigned refusal, unsigned status,
                    bool unproven)
{
    struct chaveiro_link *link = s->door->link;
    struct ftp_client *client = s->client;
    const unsigned code = refusal != 0 ? refusal : status;
    if (client == NULL)
        return;
    chaveiro_report(link, err, text, refusal, status, unproven);
    link->failed = false;
    link->code = 0;
    client->session = NULL;
    if (!unproven && code != 403 && code != 404)
        ftp_client_leave(client, "The server cannot be used: %s", text);
    else {
        ftp_reply(client, 530, "The server does not let this client in: %s", text);
        client->logged_in = client->user = false;
        ftp_client_close(client);
    }
}

static void on_closed(struct chv_message *message, enum chv_err err, const char *text)
{
    struct ftp_session *s = chv_message_owner(message);
    struct ftp_door *door = s->door;
    const unsigned refusal = chv_message_refusal(message), status = chv_message_status(message);
    const bool unproven = chv_message_unproven(message, err);
    s->message = NULL;
    if (s->ready) {
        if (s->client != NULL) {
            struct ftp_client *client = s->client;
            client->session = NULL;
            ftp_client_leave(client, "The connection to the server is lost: %s", text);
        }
    } else {
        if (tries_again(s, refusal != 0 ? refusal : status, unproven))
            return;
        refused(s, err, text, refusal, status, unproven);
    }
    if (door->connecting == s)
        door->connecting = NULL;
    session_free(s);
    ftp_session_next(door);
}

static const struct chv_message_events message_events = {
    .service = "files",
    .record = on_record,
    .drained = on_drained,
    .ready = on_ready,
    .pong = on_pong,
    .update = on_update,
    .closed = on_closed,
};

/* --- from outside ------------------------------------------------------------------------------------------------- */

static void attempt(struct ftp_session *s)
{
    struct ftp_door *door = s->door;
    struct chaveiro_link *link = door->link;
    struct chv_why why = {""};
    if (door->stored) { /* by another session: the key that was read at the start goes */
        door->stored = false;
        link->caught_up = false;
        (void)chaveiro_update_catch_up(link);
    }
    s->key = link->key;
    enum chv_err err = chv_message_connect(&link->loop, link->address, &s->key, &message_events, s, &s->message, &why);
    if (err == CHV_OK)
        return;
    refused(s, err, why.text, 0, 0, false);
    door->connecting = NULL;
    session_free(s);
    ftp_session_next(door);
}

void ftp_session_open(struct ftp_client *client)
{
    struct ftp_door *door = client->door;
    struct ftp_session *s = calloc(1, sizeof *s);
    if (s == NULL) {
        ftp_client_leave(client, "No memory for a session");
        return;
    }
    s->door = door;
    s->client = client;
    client->session = s;
    door->session_count++;
    door->link->caught_up = false;
    struct ftp_session **end = &door->waiting;
    while (*end != NULL)
        end = &(*end)->next;
    *end = s;
    ftp_session_next(door);
}

struct chv_files_client *ftp_session_files(const struct ftp_client *client)
{
    return client->session != NULL && client->session->ready ? &client->session->files : NULL;
}

void ftp_session_drop(struct ftp_client *client, bool abort)
{
    struct ftp_session *s = client->session;
    if (s == NULL)
        return;
    struct ftp_door *door = s->door;
    client->session = NULL;
    s->client = NULL;
    if (s->message != NULL && s->ready && !abort) {
        chv_message_close(s->message);
    } else if (s->message != NULL) {
        chv_message_abort(s->message);
    } else { /* it waits: for its turn, or for another attempt */
        struct ftp_session **at = &door->waiting;
        while (*at != NULL && *at != s)
            at = &(*at)->next;
        if (*at == s)
            *at = s->next;
        if (door->connecting == s) {
            door->connecting = NULL;
            (void)uv_timer_stop(&door->retry);
        }
        session_free(s);
        ftp_session_next(door);
    }
}

/* The server ends what is silent; a client that thinks is none of its business, and one that is lost is noticed. */
void ftp_tick(struct ftp_door *door)
{
    const uint64_t now = uv_hrtime(), limit = door->link->timeout * 1000000;
    for (struct ftp_client *client = door->clients, *next; client != NULL; client = next) {
        struct ftp_session *s = client->session;
        next = client->next;
        if (s == NULL || !s->ready || client->transfer.paused)
            continue;
        if (s->pinged != 0 && now - s->pinged > limit) {
            chv_conn_explain(chv_message_conn(s->message), "no answer to a ping");
            chv_conn_abort(chv_message_conn(s->message), CHV_ERR_TIMEOUT);
        } else if (s->idle_seconds > 0 && now - s->active > s->idle_seconds * UINT64_C(1000000000) / 3) {
            s->active = now;
            if (chv_message_ping(s->message) == CHV_OK)
                s->pinged = now;
        }
    }
}
