/* SPDX-License-Identifier: Apache-2.0 */
#include "services/files.h"

#include <string.h>

#include "net/control.h"
#include "net/text.h"

void chv_files_client_init(struct chv_files_client *client, struct chv_conn *conn, const struct chv_files_events *on,
                           void *arg)
{
    *client = (struct chv_files_client){.conn = conn, .on = on, .arg = arg};
}

enum chv_err chv_files_client_ask(struct chv_files_client *client, struct chv_files_request *request)
{
    uint8_t map[CHV_CONTROL_MAX];
    size_t len = sizeof map;
    request->id = client->asked + 1;
    enum chv_err err = chv_files_request_encode(request, map, &len);
    if (err == CHV_OK)
        err = chv_conn_send(client->conn, CHV_FILES_REQUEST, map, len);
    if (err == CHV_OK)
        client->asked++;
    return err;
}

enum chv_err chv_files_client_end(struct chv_files_client *client, const uint8_t *digest)
{
    return chv_conn_send(client->conn, CHV_RECORD_END, digest, digest != NULL ? CHV_FILES_DIGEST_LEN : 0);
}

bool chv_files_client_waits(const struct chv_files_client *client)
{
    return client->answered < client->asked;
}

/* The server's words go to a terminal. */
static void make_printable(char *text, size_t size)
{
    char escaped[CHV_FILES_TEXT_MAX + 1];
    size_t len;
    (void)chv_text_escape(text, strlen(text), escaped, sizeof escaped < size ? sizeof escaped : size, &len);
    memcpy(text, escaped, len + 1);
}

static enum chv_err got_answer(struct chv_files_client *c, const uint8_t *body, size_t len)
{
    struct chv_files_answer answer;
    if (chv_files_answer_decode(body, len, &answer) != CHV_OK || answer.id != c->answered + 1 ||
        c->answered == c->asked || (c->stream && answer.code != CHV_FILES_WORKING) ||
        (c->final && (answer.code == 206 || answer.code == CHV_FILES_CONTINUE))) {
        chv_conn_explain(c->conn, "the server sent a malformed answer, or one that is not due");
        return CHV_ERR_PROTOCOL;
    }
    if (answer.code == CHV_FILES_WORKING) {
        if (c->on->working != NULL)
            c->on->working(c->arg);
        return CHV_OK;
    }
    make_printable(answer.text, sizeof answer.text);
    c->stream = answer.code == 206;
    if (!c->stream && answer.code != CHV_FILES_CONTINUE) {
        c->final = false;
        c->answered++;
    }
    c->on->answer(c->arg, &answer);
    return CHV_OK;
}

enum chv_err chv_files_client_record(struct chv_files_client *client, uint8_t type, const uint8_t *body, size_t len)
{
    if (type == CHV_FILES_ANSWER)
        return got_answer(client, body, len);
    if (type == CHV_RECORD_DATA && client->stream) {
        client->on->data(client->arg, body, len);
        return CHV_OK;
    }
    if (type == CHV_RECORD_END && client->stream && (len == 0 || len == CHV_FILES_DIGEST_LEN)) {
        client->stream = false;
        client->final = true;
        client->on->end(client->arg, len > 0 ? body : NULL);
        return CHV_OK;
    }
    chv_conn_explain(client->conn, "the server sent a record of type %u that is not due", (unsigned)type);
    return CHV_ERR_PROTOCOL;
}
