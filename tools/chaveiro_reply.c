/* SPDX-License-Identifier: Apache-2.0 */
/* What the server answered, on standard output. */
#include "tools/chaveiro.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/encode.h"

enum { REPLY_JSON_MAX = 64 << 20, REPLY_ROOM = 4096 };

void chaveiro_reply_init(struct chaveiro_reply *reply, const struct chv_cli_args *args)
{
    memset(reply, 0, sizeof *reply);
    reply->json = chv_cli_given(args, "json");
    reply->escaped = isatty(STDOUT_FILENO) == 1;
}

void chaveiro_reply_free(struct chaveiro_reply *reply)
{
    free(reply->bytes);
    reply->bytes = NULL;
}

static void reply_collect(struct chaveiro_reply *reply, struct chaveiro_link *link, const uint8_t *data, size_t len)
{
    if (len > REPLY_JSON_MAX - reply->len) {
        chaveiro_fail(link, EX_DATAERR, "the answer is longer than %d bytes: leave --json out", REPLY_JSON_MAX);
        return;
    }
    if (len > reply->room - reply->len) {
        size_t room = reply->room == 0 ? REPLY_ROOM : reply->room;
        while (room - reply->len < len)
            room *= 2;
        uint8_t *bytes = realloc(reply->bytes, room);
        if (bytes == NULL) {
            chaveiro_fail_why(link, CHV_ERR_MEMORY, NULL);
            return;
        }
        reply->bytes = bytes;
        reply->room = room;
    }
    if (len > 0)
        memcpy(reply->bytes + reply->len, data, len);
    reply->len += len;
}

/* Bytes of an unfinished UTF-8 sequence at the end: its last bytes may come in the next piece. */
static size_t reply_unfinished(const uint8_t *data, size_t len)
{
    for (size_t back = 1; back <= 3 && back <= len; back++) {
        uint8_t c = data[len - back];
        if ((c & 0xc0) == 0x80)
            continue;
        size_t whole = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
        return whole > back ? back : 0;
    }
    return 0;
}

static void reply_escape(struct chaveiro_reply *reply, const uint8_t *data, size_t len)
{
    while (reply->held_len > 0 && len > 0 && reply_unfinished(reply->held, reply->held_len) == reply->held_len &&
           reply->held_len < sizeof reply->held) {
        reply->held[reply->held_len++] = *data++;
        len--;
    }
    if (len == 0 && reply->held_len > 0 && reply_unfinished(reply->held, reply->held_len) == reply->held_len)
        return;
    chv_cli_put_escaped(stdout, (const char *)reply->held, reply->held_len, true);
    reply->held_len = reply_unfinished(data, len);
    chv_cli_put_escaped(stdout, (const char *)data, len - reply->held_len, true);
    if (reply->held_len > 0)
        memcpy(reply->held, data + len - reply->held_len, reply->held_len);
}

static void reply_check_stdout(struct chaveiro_link *link)
{
    if (ferror(stdout))
        chaveiro_fail(link, EX_IOERR, "standard output: %s", strerror(errno));
}

void chaveiro_reply_add(struct chaveiro_reply *reply, struct chaveiro_link *link, const uint8_t *data, size_t len)
{
    if (reply->json) {
        reply_collect(reply, link, data, len);
        return;
    }
    if (reply->escaped)
        reply_escape(reply, data, len);
    else
        (void)fwrite(data, 1, len, stdout);
    reply_check_stdout(link);
}

/* {"reply": text}, or {"reply_base64url": ...} for bytes that are not UTF-8. */
static void reply_print_json(struct chaveiro_reply *reply, struct chaveiro_link *link)
{
    json_t *o = json_object();
    json_t *text = json_stringn(reply->len > 0 ? (const char *)reply->bytes : "", reply->len);
    char *encoded = NULL;
    if (o == NULL)
        goto out;
    if (text == NULL) {
        encoded = malloc(CHV_BASE64_SIZE(reply->len));
        if (encoded == NULL)
            goto out;
        chv_base64_encode(reply->bytes, reply->len, encoded);
        (void)json_object_set_new(o, "reply_base64url", json_string(encoded));
    } else {
        (void)json_object_set(o, "reply", text);
    }
    (void)json_object_set_new(o, "bytes", json_integer((json_int_t)reply->len));
    chv_cli_print(json_incref(o), true);
    reply->len = 0;
out:
    if (o == NULL || (text == NULL && encoded == NULL))
        chaveiro_fail_why(link, CHV_ERR_MEMORY, NULL);
    free(encoded);
    json_decref(text);
    json_decref(o);
}

void chaveiro_reply_finish(struct chaveiro_reply *reply, struct chaveiro_link *link)
{
    if (reply->json)
        reply_print_json(reply, link);
    else {
        chv_cli_put_escaped(stdout, (const char *)reply->held, reply->held_len, true);
        reply->held_len = 0;
        (void)fputc('\n', stdout);
    }
    if (fflush(stdout) != 0)
        reply_check_stdout(link);
}
