/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "services/files_out.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "net/conn.h"
#include "services/files_digest.h"

enum { OUT_HEAD = 5, OUT_FIRST = 8192 };

uint8_t *chv_files_out_body(struct chv_files_out *out, size_t len)
{
    const size_t wanted = out->len + OUT_HEAD + len;
    if (wanted > out->cap) {
        size_t cap = out->cap > 0 ? out->cap : OUT_FIRST;
        while (cap < wanted)
            cap *= 2;
        uint8_t *buf = realloc(out->buf, cap);
        if (buf == NULL)
            return NULL;
        out->buf = buf;
        out->cap = cap;
    }
    return out->buf + out->len + OUT_HEAD;
}

void chv_files_out_add(struct chv_files_out *out, uint8_t type, size_t len)
{
    const uint32_t length = (uint32_t)len;
    out->buf[out->len] = type;
    memcpy(out->buf + out->len + 1, &length, sizeof length);
    out->len += OUT_HEAD + len;
}

bool chv_files_out_next(const struct chv_files_out *out, size_t *at, uint8_t *type, const uint8_t **body, size_t *len)
{
    uint32_t length;
    if (*at == out->len)
        return false;
    *type = out->buf[*at];
    memcpy(&length, out->buf + *at + 1, sizeof length);
    *body = out->buf + *at + OUT_HEAD;
    *len = length;
    *at += OUT_HEAD + length;
    return true;
}

enum chv_err chv_files_out_end(struct chv_files_out *out, const uint8_t *digest)
{
    const size_t len = digest != NULL ? CHV_FILES_DIGEST_LEN : 0;
    uint8_t *body = chv_files_out_body(out, CHV_FILES_DIGEST_LEN);
    if (body == NULL)
        return CHV_ERR_MEMORY;
    if (len > 0)
        memcpy(body, digest, len);
    chv_files_out_add(out, CHV_RECORD_END, len);
    return CHV_OK;
}

enum chv_err chv_files_out_send(struct chv_files_out *out, size_t *at, struct chv_conn *conn, bool *all)
{
    uint8_t type;
    const uint8_t *body;
    size_t len;
    enum chv_err err = CHV_OK;
    chv_conn_cork(conn);
    while (err == CHV_OK && chv_conn_unsent(conn) == 0 && chv_files_out_next(out, at, &type, &body, &len))
        err = chv_conn_send(conn, type, body, len);
    chv_conn_uncork(conn);
    *all = err == CHV_OK && *at == out->len;
    if (*all) {
        chv_wipe(out->buf, out->len);
        out->len = *at = 0;
    }
    return err;
}
