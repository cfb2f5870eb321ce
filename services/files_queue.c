/* SPDX-License-Identifier: Apache-2.0 */
#include "services/files_queue.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "net/loop.h"

struct chv_files_block {
    struct chv_files_block *next;
    size_t cap;
    size_t at, len; /* taken, filled */
    size_t dirty;   /* bytes in front that were ever filled */
    uint8_t data[];
};

struct head {
    size_t len;
    uint8_t type;
};

_Static_assert(CHV_FILES_BLOCK >= sizeof(struct head) + CHV_RECORD_BULK_BODY, "a block holds any record");

static void free_blocks(struct chv_files_block **list)
{
    while (*list != NULL) {
        struct chv_files_block *b = *list;
        *list = b->next;
        chv_wipe(b->data, b->dirty);
        free(b);
    }
}

/* An empty block for `need` bytes, at the end of the queue. */
static struct chv_files_block *new_block(struct chv_files_queue *q, size_t need)
{
    struct chv_files_block *b = q->spare;
    if (b != NULL && b->cap < need) { /* the small one */
        free_blocks(&q->spare);
        b = NULL;
    }
    if (b != NULL) {
        q->spare = b->next;
    } else {
        const size_t cap = q->last == NULL && need <= CHV_FILES_BLOCK_SMALL ? CHV_FILES_BLOCK_SMALL : CHV_FILES_BLOCK;
        b = malloc(sizeof *b + cap);
        if (b == NULL)
            return NULL;
        b->cap = cap;
        b->dirty = 0;
    }
    b->next = NULL;
    b->at = b->len = 0;
    if (q->last != NULL)
        q->last->next = b;
    else
        q->first = b;
    q->last = b;
    return b;
}

enum chv_err chv_files_queue_add(struct chv_files_queue *q, uint8_t type, const uint8_t *body, size_t len)
{
    const struct head head = {.len = len, .type = type};
    const size_t need = sizeof head + len;
    struct chv_files_block *b = q->last;
    if (b == NULL || b->cap - b->len < need)
        b = new_block(q, need);
    if (b == NULL)
        return CHV_ERR_MEMORY;
    memcpy(b->data + b->len, &head, sizeof head);
    if (len > 0)
        memcpy(b->data + b->len + sizeof head, body, len);
    b->len += need;
    b->dirty = b->dirty > b->len ? b->dirty : b->len;
    q->bytes += need;
    return CHV_OK;
}

bool chv_files_queue_take(struct chv_files_queue *q, uint8_t *type, const uint8_t **body, size_t *len)
{
    struct chv_files_block *b = q->first;
    struct head head;
    if (b == NULL)
        return false;
    memcpy(&head, b->data + b->at, sizeof head);
    *type = head.type;
    *body = b->data + b->at + sizeof head;
    *len = head.len;
    b->at += sizeof head + head.len;
    q->bytes -= sizeof head + head.len;
    if (b->at < b->len)
        return true;
    q->first = b->next;
    if (q->first == NULL)
        q->last = NULL;
    b->next = q->spare;
    q->spare = b;
    return true;
}

void chv_files_queue_turn(struct chv_files_queue *to, struct chv_files_queue *from)
{
    struct chv_files_block **end = &from->spare;
    to->first = from->first;
    to->last = from->last;
    to->bytes = from->bytes;
    from->first = from->last = NULL;
    from->bytes = 0;
    while (*end != NULL)
        end = &(*end)->next;
    *end = to->spare;
    to->spare = NULL;
}

void chv_files_queue_trim(struct chv_files_queue *q)
{
    free_blocks(&q->spare);
}

void chv_files_queue_free(struct chv_files_queue *q)
{
    free_blocks(&q->first);
    free_blocks(&q->spare);
    *q = (struct chv_files_queue){.first = NULL};
}
