/* SPDX-License-Identifier: Apache-2.0 */
/* What chaveiro's commands for files share. */
#ifndef CHV_TOOLS_CHAVEIRO_FILES_H
#define CHV_TOOLS_CHAVEIRO_FILES_H

#include "services/files.h"
#include "tools/chaveiro.h"

/*
 * A name on the server as people write it: one slash in front and some behind it are left out, "/" is the client's
 * home. EX_OK, or EX_USAGE after one line.
 */
int chaveiro_files_remote(const char *text, char out[CHV_FILES_PATH_MAX + 1]);
/* One line for an answer that is an error; the link's exit code is the first one's. */
void chaveiro_files_failed(struct chaveiro_link *link, const struct chv_files_answer *answer);
/* "2026-03-01 12:00:00", local time, of ns since 1970. */
enum { CHAVEIRO_TIME_SIZE = 32 };
void chaveiro_files_time(uint64_t ns, char out[CHAVEIRO_TIME_SIZE]);

/* A line on standard error, drawn over itself; only on a terminal, and not with --json. */
struct chaveiro_progress {
    bool shown;
    const char *name;
    uint64_t size, started, drawn; /* bytes; uv_hrtime */
};

void chaveiro_progress_begin(struct chaveiro_progress *p, const struct chv_cli_args *args, const char *name,
                             uint64_t size);
void chaveiro_progress_to(struct chaveiro_progress *p, uint64_t done);
/* Takes the line away. */
void chaveiro_progress_end(struct chaveiro_progress *p);
/* The line itself: what is done, rate and time left; `ns` since the beginning. */
void chaveiro_progress_text(uint64_t done, uint64_t size, uint64_t ns, char *out, size_t out_size);

/* What -v and --json say of a transfer that is over. */
void chaveiro_files_summary(const struct chaveiro_link *link, const char *command, const char *remote,
                            const char *local, uint64_t size, uint64_t started,
                            const uint8_t digest[static CHV_FILES_DIGEST_LEN]);

#endif
