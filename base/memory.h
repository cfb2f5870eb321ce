/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets in memory: wiping, constant-time comparison, locked pages. */
#ifndef CHV_BASE_MEMORY_H
#define CHV_BASE_MEMORY_H

#include <stddef.h>

/* Overwrites with zeros in a way that the compiler keeps.  NULL with len 0 is allowed. */
void chv_wipe(void *ptr, size_t len);

/* 1 if equal, 0 if not; time depends on len only. */
int chv_equal(const void *a, const void *b, size_t len);

/* 1 if all len bytes are 0; time depends on len only. */
int chv_is_zero(const void *ptr, size_t len);

/*
 * Memory for long-lived secrets: zeroed, own pages, kept out of swap where the limit on locked memory allows
 * and always out of core dumps, with an inaccessible page on either side.  Zero on fork is not set: a child of a
 * process that holds secrets has them. NULL when there is no memory.
 */
void *chv_secure_alloc(size_t len);
/* Wipes and unmaps; `len` as given to chv_secure_alloc.  NULL is allowed. */
void chv_secure_free(void *ptr, size_t len);

#endif
