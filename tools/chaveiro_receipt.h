/* SPDX-License-Identifier: Apache-2.0 */
/* chaveiro put --receipt: what the server signs about a stored file, checked and kept. */
#ifndef CHV_TOOLS_CHAVEIRO_RECEIPT_H
#define CHV_TOOLS_CHAVEIRO_RECEIPT_H

#include "services/files.h"
#include "tools/chaveiro.h"

struct chaveiro_receipts {
    const char *where; /* as it was given; NULL: none are wanted */
    bool folder;       /* each file's is in it, PATH.receipt; else `where` is the one receipt */
    bool has_key, checked;
    struct chv_identity key; /* the server's, that must have signed */
};

/* From --receipt. `many`: more than one file may be stored. EX_OK, or EX_USAGE after one line. */
int chaveiro_receipts_init(struct chaveiro_receipts *receipts, const struct chv_cli_args *args, bool many);
/*
 * Before a file is sent to `path`: that its receipt can be written, and once the key of --receipt-key or the
 * configuration. EX_OK, or an exit code after one line.
 */
int chaveiro_receipts_plan(struct chaveiro_receipts *receipts, const struct chaveiro_link *link, const char *path);
/*
 * The answer 200 to that put, which stored `size` bytes with that SHA-256: its receipt is checked, against what was sent,
 * who sent it and to which server, and written. EX_OK; else an exit code after one line, which also says that the file is
 * stored, and nothing was written.
 */
int chaveiro_receipts_take(const struct chaveiro_receipts *receipts, const struct chaveiro_link *link, const char *path,
                           uint64_t size, const uint8_t digest[static CHV_FILES_DIGEST_LEN],
                           const struct chv_files_answer *answer);

#endif
