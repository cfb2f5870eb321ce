/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's side of one connection without the connection: records in, file system calls, records out. It blocks,
 * and is called from one thread at a time.
 */
#ifndef CHV_SERVICES_FILES_SESSION_H
#define CHV_SERVICES_FILES_SESSION_H

#include "services/files_home.h"
#include "services/files_out.h"
#include "services/files_wire.h"

struct chv_files_session;

/*
 * `root` outlives it, `id` is copied. `write`: scope files:rw. `shares`: a bit for each of the root's that the client
 * sees. CHV_ERR_MEMORY.
 */
enum chv_err chv_files_session_new(const struct chv_files_root *root, const char *id, bool write, uint32_t shares,
                                   struct chv_files_session **session) CHV_MUST_CHECK;
/* What is unfinished is undone, or kept to be gone on with. NULL is allowed. */
void chv_files_session_free(struct chv_files_session *session);

/*
 * A record of the client, not while chv_files_session_streams. An error ends the connection: CHV_ERR_MALFORMED (a
 * request that cannot be told from others), CHV_ERR_PROTOCOL, CHV_ERR_MEMORY.
 */
enum chv_err chv_files_session_record(struct chv_files_session *session, uint8_t type, const uint8_t *body, size_t len,
                                      struct chv_files_out *out) CHV_MUST_CHECK;
/* An answer is under way: chv_files_session_more makes the next part of it, at most about CHV_FILES_OUT_FULL bytes. */
bool chv_files_session_streams(const struct chv_files_session *session);
enum chv_err chv_files_session_more(struct chv_files_session *session, struct chv_files_out *out) CHV_MUST_CHECK;

/* No other record is there for now: answers that have waited for company are made. */
enum chv_err chv_files_session_rest(struct chv_files_session *session, struct chv_files_out *out) CHV_MUST_CHECK;

/*
 * The oldest request without an answer that was told (chv_files_session_told), false: there is none. Any thread may
 * ask.
 */
bool chv_files_session_due(const struct chv_files_session *session, uint64_t *id);
/* All records so far have been sent. */
void chv_files_session_told(struct chv_files_session *session);

/* A file is stored whose answer waits for its receipt: no other record until chv_files_session_receipt was called. */
bool chv_files_session_wants_receipt(const struct chv_files_session *session);
/* What it is to say; server and time stay 0. */
void chv_files_session_claim(const struct chv_files_session *session, struct chv_receipt *claim);
/* The statement and its signature; or `why` there is none, which the answer then says. Does not block. CHV_ERR_MEMORY. */
enum chv_err chv_files_session_receipt(struct chv_files_session *session, const char *why, const char *text,
                                       const uint8_t *signature, size_t signature_len,
                                       struct chv_files_out *out) CHV_MUST_CHECK;

#endif
