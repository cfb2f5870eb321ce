/* SPDX-License-Identifier: Apache-2.0 */
/* The journal of a watched folder, for tools/chaveiro_watch_state.c only. */
#ifndef CHV_TOOLS_CHAVEIRO_WATCH_JOURNAL_H
#define CHV_TOOLS_CHAVEIRO_WATCH_JOURNAL_H

#include "tools/chaveiro_watch_state.h"

/* Reads what is there: who, intents. A last part that was not written whole is left out. */
enum chv_err chaveiro_journal_read(struct chaveiro_watch_state *s, struct chv_why *why) CHV_MUST_CHECK;
/* Goes on with the file that was read. */
enum chv_err chaveiro_journal_go_on(struct chaveiro_watch_state *s, struct chv_why *why) CHV_MUST_CHECK;
/* Another file, with what counts still, in its place; durable. */
enum chv_err chaveiro_journal_rewrite(struct chaveiro_watch_state *s, struct chv_why *why) CHV_MUST_CHECK;
/* Intents of those with code 200, durable; where there is no space for them, their code says so. */
enum chv_err chaveiro_journal_intend(struct chaveiro_watch_state *s, struct chaveiro_watch_file *files, size_t n,
                                     struct chv_why *why) CHV_MUST_CHECK;
/* Takes the intents of those back whose code is not 200, durably. */
enum chv_err chaveiro_journal_abort(struct chaveiro_watch_state *s, const struct chaveiro_watch_file *files, size_t n,
                                    struct chv_why *why) CHV_MUST_CHECK;
/* In memory. */
void chaveiro_journal_forget(struct chaveiro_watch_state *s, const uint8_t id[CHV_PUSH_ID_LEN]);

#endif
