/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transfers: a stream of the channel on one side, a data connection on the other. Content is verified as it goes
 * through; what is not complete ends with a reset, or is given up at the server, so that neither side takes it for a whole file.
 */
#include "tools/chaveiro_ftp.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/words.h"

enum { LIST_BYTES = 16384, STORED_MODE = 0644, GONE_MS = 20 };

/* --- the end ------------------------------------------------------------------------------------------------------ */

void ftp_transfer_forget(struct ftp_client *client)
{
    chv_files_digest_free(client->transfer.digest);
    client->transfer = (struct ftp_transfer){.kind = FTP_NONE};
    client->answered = NULL;
}

/* The replies; the data connection is closed already. */
static void say(struct ftp_client *client, unsigned code, const char *text)
{
    const bool aborted = client->transfer.aborted;
    ftp_reply(client, code, "%s", text);
    if (aborted)
        ftp_reply(client, 226, "ABOR: done");
    ftp_transfer_forget(client);
}

/* The rest of a stream that nobody wants is not fetched: the session goes, and another one comes. */
static void renew(struct ftp_client *client, unsigned code, const char *text)
{
    say(client, code, text);
    if (client->closing)
        return;
    ftp_session_drop(client, true);
    (void)uv_timer_stop(&client->timer);
    ftp_session_open(client);
}

static void on_no_answer(struct ftp_client *client)
{
    ftp_client_leave(client, "The server does not answer");
}

static void on_stalled(struct ftp_client *client)
{
    ftp_data_close(client, true);
    ftp_transfer_broken(client, 426, "The data connection stood still for too long");
}

static void wait_for_server(struct ftp_client *client)
{
    ftp_timer(client, client->door->link->timeout, on_no_answer);
}

static void wait_for_client(struct ftp_client *client)
{
    ftp_timer(client, FTP_IDLE_MS, on_stalled);
}

/* STOR: the end of the content; digest NULL: it is not to be kept. The answer is due then. */
static void end_content(struct ftp_client *client, const uint8_t *digest)
{
    struct chv_files_client *files = ftp_session_files(client);
    enum chv_err err = files != NULL ? chv_files_client_end(files, digest) : CHV_OK;
    (void)err; /* the end of the connection says it */
    client->transfer.ended = true;
    wait_for_server(client);
}

static void give_up(struct ftp_client *client, unsigned code, const char *text)
{
    struct ftp_transfer *t = &client->transfer;
    if (t->kind != FTP_STOR) {
        renew(client, code, text);
        return;
    }
    if (t->ended) /* it cannot be undone: the answer decides */
        return;
    t->failed = code;
    (void)snprintf(t->text, sizeof t->text, "%s", text);
    end_content(client, NULL);
}

void ftp_transfer_broken(struct ftp_client *client, unsigned code, const char *text)
{
    if (client->transfer.kind != FTP_NONE)
        give_up(client, code, text);
}

void ftp_transfer_abort(struct ftp_client *client)
{
    client->transfer.aborted = true;
    ftp_data_close(client, true);
    give_up(client, 426, "Aborted");
}

/* --- answers ------------------------------------------------------------------------------------------------------ */

static void stream_begins(struct ftp_client *client)
{
    struct ftp_transfer *t = &client->transfer;
    if (t->failed != 0)
        return;
    t->begun = true;
    if (chv_files_digest_new(&t->digest) != CHV_OK) {
        ftp_data_close(client, true);
        give_up(client, 451, "No SHA-256");
        return;
    }
    ftp_reply(client, 150, "Here it comes");
    if (client->closing)
        return;
    wait_for_client(client);
    ftp_data_open(client);
    if (t->kind == FTP_NONE || t->kind == FTP_STOR || t->open)
        return;
    t->paused = true;
    chv_conn_pause(ftp_session_files(client)->conn);
}

static void finish(struct ftp_client *client, const struct chv_files_answer *a)
{
    struct ftp_transfer *t = &client->transfer;
    const bool stores = t->kind == FTP_STOR;
    const char *text = a->text[0] != '\0' ? a->text : "Refused";
    bool good = a->code < 300 && t->failed == 0;
    if (good && stores)
        good = a->has_digest && t->ended && memcmp(a->digest, t->sum, sizeof t->sum) == 0;
    else if (good)
        good = t->complete;
    if (stores && !t->ended)
        end_content(client, NULL);
    ftp_data_close(client, !good && t->begun);
    if (good)
        say(client, 226, stores ? "Stored" : "Done");
    else if (t->failed != 0)
        say(client, t->failed, t->text);
    else if (a->code < 300)
        say(client, 451, "What came is not what was sent");
    else /* 409 in the middle of a file: it changes */
        say(client, t->begun && a->code == 409 && !stores ? 451 : ftp_code_of(a->code, stores), text);
    ftp_done(client);
}

void ftp_transfer_answer(struct ftp_client *client, const struct chv_files_answer *answer)
{
    if (answer->code == 206 || answer->code == CHV_FILES_CONTINUE)
        stream_begins(client);
    else
        finish(client, answer);
}

void ftp_transfer_begin(struct ftp_client *client, enum ftp_kind kind)
{
    struct ftp_transfer *t = &client->transfer;
    struct timespec now;
    t->kind = kind;
    t->announced = client->has_announced ? client->announced : UINT64_MAX;
    if (kind == FTP_STOR) {
        client->has_announced = false;
        (void)clock_gettime(CLOCK_REALTIME, &now);
        client->request.no_size = true;
        client->request.mode = STORED_MODE;
        client->request.mtime = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    } else if (kind == FTP_RETR && client->rest != 0) {
        client->request.has_offset = client->request.no_prefix = true;
        client->request.offset = client->rest;
    }
    ftp_ask(client, ftp_transfer_answer);
}

/* --- from the server ---------------------------------------------------------------------------------------------- */

static bool write_out(struct ftp_client *client, const uint8_t *bytes, size_t len)
{
    return client->transfer.kind != FTP_NONE && len > 0 && ftp_data_write(client, bytes, len);
}

/* The line of an entry, with CR LF; 0: it does not fit the pattern. */
static size_t format_entry(struct ftp_client *client, const struct chv_files_entry *e, char out[FTP_LINE_OUT_MAX + 2])
{
    const struct ftp_transfer *t = &client->transfer;
    size_t len;
    if (t->pattern[0] != '\0' && strcmp(t->pattern, e->name) != 0 && !chv_pattern_match(t->pattern, e->name))
        return 0;
    if (t->kind == FTP_LIST)
        len = ftp_list_format(e, (uint64_t)time(NULL), out);
    else if (t->kind == FTP_MLSD) {
        len = ftp_facts_format(&e->meta, client->facts, out);
        len += (size_t)snprintf(out + len, FTP_LINE_OUT_MAX - len, "%s", e->name);
    } else if (t->single)
        len = (size_t)snprintf(out, FTP_LINE_OUT_MAX, "%s", t->argument);
    else
        len = (size_t)snprintf(out, FTP_LINE_OUT_MAX, "%s%s", t->prefix, e->name);
    out[len++] = '\r';
    out[len++] = '\n';
    return len;
}

static bool list_entries(struct ftp_client *client, const uint8_t *data, size_t len)
{
    char lines[LIST_BYTES];
    size_t have = 0, used;
    bool waits = false;
    while (len > 0) {
        struct chv_files_entry entry;
        if (chv_files_entry_decode(data, len, &entry, &used) != CHV_OK) {
            client->transfer.damaged = true;
            break;
        }
        have += format_entry(client, &entry, lines + have);
        data += used;
        len -= used;
        if (have > sizeof lines - FTP_LINE_OUT_MAX - 2) {
            waits = write_out(client, (const uint8_t *)lines, have) || waits;
            have = 0;
        }
    }
    return write_out(client, (const uint8_t *)lines, have) || waits;
}

void ftp_transfer_data(struct ftp_client *client, const uint8_t *data, size_t len)
{
    struct ftp_transfer *t = &client->transfer;
    if (t->kind == FTP_NONE || !t->open)
        return;
    if (chv_files_digest_add(t->digest, data, len) != CHV_OK)
        t->damaged = true;
    t->count += len;
    bool waits = t->kind == FTP_RETR ? write_out(client, data, len) : list_entries(client, data, len);
    if (t->kind == FTP_NONE)
        return; /* it broke */
    if (!waits) {
        wait_for_server(client);
        return;
    }
    t->paused = true;
    wait_for_client(client);
    chv_conn_pause(ftp_session_files(client)->conn);
}

void ftp_transfer_end(struct ftp_client *client, const uint8_t *digest)
{
    struct ftp_transfer *t = &client->transfer;
    t->complete = t->kind != FTP_NONE && digest != NULL && !t->damaged &&
                  chv_files_digest_finish(t->digest, t->sum) == CHV_OK && memcmp(t->sum, digest, sizeof t->sum) == 0;
}

static void go_on(struct ftp_client *client)
{
    struct ftp_transfer *t = &client->transfer;
    if (!t->paused)
        return;
    t->paused = false;
    wait_for_server(client);
    chv_conn_unpause(ftp_session_files(client)->conn); /* may hand out records */
}

void ftp_transfer_drained(struct ftp_client *client)
{
    go_on(client);
}

void ftp_transfer_open(struct ftp_client *client)
{
    struct ftp_transfer *t = &client->transfer;
    t->open = true;
    if (t->kind == FTP_STOR) {
        if (!t->ended)
            ftp_data_read(client, true);
        return;
    }
    wait_for_server(client);
    go_on(client);
}

/* --- to the server ------------------------------------------------------------------------------------------------ */

uint8_t *ftp_transfer_room(struct ftp_client *client, size_t *len)
{
    struct chv_files_client *files = ftp_session_files(client);
    return files != NULL ? chv_conn_body(files->conn, len) : NULL;
}

void ftp_transfer_read(struct ftp_client *client, const uint8_t *bytes, size_t len)
{
    struct ftp_transfer *t = &client->transfer;
    struct chv_conn *conn = ftp_session_files(client)->conn;
    if (t->kind != FTP_STOR || t->ended)
        return;
    enum chv_err err = chv_files_digest_add(t->digest, bytes, len);
    if (err == CHV_OK)
        err = chv_conn_send_body(conn, CHV_RECORD_DATA, len);
    t->count += len;
    if (err == CHV_OK && chv_conn_unsent(conn) == 0) {
        wait_for_client(client);
        return;
    }
    /* A socket that takes no more ends the connection from its reading side. */
    ftp_data_read(client, false);
    wait_for_server(client);
}

void ftp_transfer_sent(struct ftp_client *client)
{
    const struct ftp_transfer *t = &client->transfer;
    if (t->kind != FTP_STOR || t->ended || !t->open)
        return;
    wait_for_client(client);
    ftp_data_read(client, true);
}

static void keep_content(struct ftp_client *client)
{
    struct ftp_transfer *t = &client->transfer;
    if (ftp_client_gone(client))
        give_up(client, 426, "The control connection was closed");
    else if (chv_files_digest_finish(t->digest, t->sum) != CHV_OK)
        give_up(client, 451, "No SHA-256");
    else
        end_content(client, t->sum);
}

/*
 * The content ends as the data connection does, and so it does when the program was killed. Then its control connection
 * ends, too, just before or behind: that is waited for, unless ALLO has said that this is all.
 */
void ftp_transfer_eof(struct ftp_client *client)
{
    struct ftp_transfer *t = &client->transfer;
    if (t->kind != FTP_STOR || t->ended)
        return;
    ftp_data_close(client, false);
    if (t->count == t->announced)
        keep_content(client);
    else
        ftp_timer(client, GONE_MS, keep_content);
}
