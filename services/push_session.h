/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The work of one connection of the service `push`, without the connection: answers in, records out. All of it blocks on
 * the file system; one thread at a time.
 */
#ifndef CHV_SERVICES_PUSH_SESSION_H
#define CHV_SERVICES_PUSH_SESSION_H

#include "services/files_session.h"
#include "services/push_outbox.h"

struct chv_push_session;

/*
 * `outbox` outlives it, `id` is copied. `wake` is called, from any thread until the session is freed, when there may be
 * entries for it that were another connection's. CHV_ERR_MEMORY.
 */
enum chv_err chv_push_session_new(const struct chv_push_outbox *outbox, const char *id, void (*wake)(void *arg),
                                  void *arg, struct chv_push_session **session) CHV_MUST_CHECK;
/* What it offered and was not answered is offered to others. NULL is allowed. */
void chv_push_session_free(struct chv_push_session *session);

/* 0: the client has no folder yet, or none that can be read; else a number that changes when it has another one. */
unsigned chv_push_session_folder(const struct chv_push_session *session);
/*
 * Up to CHV_PUSH_WINDOW answers of the client: entries that it has are removed, durably, and it is told so. An error
 * ends the connection: CHV_ERR_PROTOCOL for an answer that does not fit, CHV_ERR_IO, CHV_ERR_MEMORY.
 */
enum chv_err chv_push_session_answers(struct chv_push_session *session, const struct chv_push_answer *answers, size_t n,
                                      struct chv_files_out *out) CHV_MUST_CHECK;
/* There may be new entries; `again`: those that the client refused may be offered again. */
void chv_push_session_look(struct chv_push_session *session, bool again);
/* Whether chv_push_session_more has something to do without another answer. */
bool chv_push_session_busy(const struct chv_push_session *session);
/* Offers entries, at most about CHV_FILES_OUT_FULL bytes. */
enum chv_err chv_push_session_more(struct chv_push_session *session, struct chv_files_out *out) CHV_MUST_CHECK;

#endif
