/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records of a client that wait to be worked off, packed into blocks. What was emptied is filled again: memory that goes
 * back to the system with each record costs more in page faults than the record's encryption.
 */
#ifndef CHV_SERVICES_FILES_QUEUE_H
#define CHV_SERVICES_FILES_QUEUE_H

#include <chaveiro/error.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CHV_FILES_BLOCK = 256 * 1024, /* bytes of a block; each holds at least one record of any length */
    CHV_FILES_BLOCK_SMALL = 4096  /* of the first one if that is enough: most requests come alone */
};

struct chv_files_block;

/* All zero: empty. */
struct chv_files_queue {
    struct chv_files_block *first, *last;
    struct chv_files_block *spare; /* empty ones, and the one that the last record stands in */
    size_t bytes;                  /* of the records that wait */
};

/* Copies a record to the end; `len` at most CHV_RECORD_BULK_BODY. CHV_ERR_MEMORY: nothing changed. */
enum chv_err chv_files_queue_add(struct chv_files_queue *q, uint8_t type, const uint8_t *body,
                                 size_t len) CHV_MUST_CHECK;
/* Takes the first record; `body` holds until the queue is touched again. False: it is empty. */
bool chv_files_queue_take(struct chv_files_queue *q, uint8_t *type, const uint8_t **body, size_t *len);
/* All records of `from` to `to`, which has none, and the spare blocks of `to` to `from`. */
void chv_files_queue_turn(struct chv_files_queue *to, struct chv_files_queue *from);
/* Wipes and frees the spare blocks. */
void chv_files_queue_trim(struct chv_files_queue *q);
/* Everything, the records too. */
void chv_files_queue_free(struct chv_files_queue *q);

#endif
