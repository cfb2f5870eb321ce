/* SPDX-License-Identifier: Apache-2.0 */
/* What services/push_outbox.c and push_spool.c share; nobody else includes this. */
#ifndef CHV_SERVICES_PUSH_OUTBOX_INTERNAL_H
#define CHV_SERVICES_PUSH_OUTBOX_INTERNAL_H

#include "services/push_outbox.h"

/* The head of an entry's file. */
enum { CHV_PUSH_MAGIC_LEN = 8, CHV_PUSH_MAP_AT = CHV_PUSH_MAGIC_LEN + 2 };
_Static_assert(CHV_PUSH_MAP_AT + CHV_PUSH_MAP_MAX <= CHV_PUSH_HEAD, "the largest map fits");
extern const uint8_t chv_push_magic[CHV_PUSH_MAGIC_LEN];

/* Gives something new the owner, group and mode that the outbox has. */
int chv_push_adopt(const struct chv_push_outbox *outbox, int fd, bool folder);
/* A folder in the outbox, made if it is missing; its name is durable. */
int chv_push_make_folder(const struct chv_push_outbox *outbox, const char *name, int *fd);

#endif
