/* SPDX-License-Identifier: Apache-2.0 */
/* A put whose client wants a receipt: its answer waits until there is one, or cannot be. */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "services/files_session_internal.h"

enum chv_err chv_files_put_stored(struct chv_files_session *s, struct chv_files_answer *answer, uint64_t size)
{
    if (!s->request.receipt)
        return chv_files_reply_with(s, answer, 200, NULL);
    s->receipt_due = true;
    s->receipt_size = size;
    memcpy(s->receipt_digest, answer->digest, sizeof s->receipt_digest);
    return CHV_OK;
}

bool chv_files_session_wants_receipt(const struct chv_files_session *session)
{
    return session->receipt_due;
}

void chv_files_session_claim(const struct chv_files_session *session, struct chv_receipt *claim)
{
    memset(claim, 0, sizeof *claim);
    memcpy(claim->client, session->id, strnlen(session->id, sizeof claim->client - 1));
    memcpy(claim->path, session->request.path, sizeof claim->path);
    memcpy(claim->sha256, session->receipt_digest, sizeof claim->sha256);
    claim->size = session->receipt_size;
}

enum chv_err chv_files_session_receipt(struct chv_files_session *session, const char *why, const char *text,
                                       const uint8_t *signature, size_t signature_len, struct chv_files_out *out)
{
    struct chv_files_answer answer = {.has_digest = true, .has_receipt = why == NULL};
    char refused[CHV_FILES_TEXT_MAX + 1] = "";
    memcpy(answer.digest, session->receipt_digest, sizeof answer.digest);
    if (why == NULL) {
        (void)snprintf(answer.receipt, sizeof answer.receipt, "%s", text);
        memcpy(answer.signature, signature, signature_len);
        answer.signature_len = signature_len;
    } else {
        (void)snprintf(refused, sizeof refused, "stored, but without a receipt: %s", why);
    }
    session->receipt_due = false;
    session->out = out;
    return chv_files_reply_with(session, &answer, 200, refused);
}
