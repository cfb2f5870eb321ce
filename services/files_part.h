/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parts: files on their way in, and what interrupted ones have left, beside the name that they are for. Who writes one
 * holds its lock (flock(2)). All of this blocks on the file system; any thread may call it.
 */
#ifndef CHV_SERVICES_FILES_PART_H
#define CHV_SERVICES_FILES_PART_H

#include "services/files_home.h"

enum { CHV_FILES_PART_SIZE = sizeof CHV_FILES_PART + 16 };

/* The part of `name`. False: no memory. */
bool chv_files_part_name(const char *name, char out[CHV_FILES_PART_SIZE]);
bool chv_files_is_part(const char *name);
/*
 * Opens the part for writing and locks it; `make`: if there is none, too. *size: bytes that it has. 0 or errno: EBUSY, it
 * is another's; ENOENT.
 */
int chv_files_part_open(int dir, const char *part, bool make, int *fd, uint64_t *size);
/* Removes the part unless another one is at it, or `older` is not 0 and its last change is not older than that. errno. */
int chv_files_part_remove(struct chv_files_home *home, int dir, const char *part, time_t older);
/* Removes all parts of a folder that has nothing else: 0. Else ENOTEMPTY, or another errno. */
int chv_files_part_clear(struct chv_files_home *home, int dir);

#endif
