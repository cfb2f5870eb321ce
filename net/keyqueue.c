/* SPDX-License-Identifier: Apache-2.0 */
#include "net/keyqueue.h"

#include "net/source.h"

#include <stdlib.h>

struct chv_keyqueue_source {
    uint64_t key;
    size_t count;
    bool trusted;
    struct chv_keyqueue_entry *first, *last;
    struct chv_keyqueue_source *prev, *next; /* ring of turns; next also chains the unused */
    struct chv_keyqueue_source *chain;       /* of its hash bucket */
};

enum chv_err chv_keyqueue_init(struct chv_keyqueue *queue, size_t capacity, uint64_t seed)
{
    *queue = (struct chv_keyqueue){.capacity = capacity, .seed = seed, .buckets = 1};
    while (queue->buckets < capacity)
        queue->buckets *= 2;
    queue->table = calloc(queue->buckets, sizeof(struct chv_keyqueue_source *));
    queue->sources = calloc(capacity, sizeof *queue->sources);
    queue->trust = calloc(CHV_KEYQUEUE_TRUSTED, sizeof *queue->trust);
    if (queue->table == NULL || queue->sources == NULL || queue->trust == NULL) {
        chv_keyqueue_free(queue);
        return CHV_ERR_MEMORY;
    }
    for (size_t i = 0; i < capacity; i++) {
        queue->sources[i].next = queue->unused;
        queue->unused = &queue->sources[i];
    }
    return CHV_OK;
}

void chv_keyqueue_free(struct chv_keyqueue *queue)
{
    free(queue->table);
    free(queue->sources);
    free(queue->trust);
    *queue = (struct chv_keyqueue){0};
}

static struct chv_keyqueue_source **bucket_of(const struct chv_keyqueue *queue, uint64_t source)
{
    return &queue->table[chv_source_hash(source, queue->seed) & (queue->buckets - 1)];
}

static struct chv_keyqueue_trust *trust_of(const struct chv_keyqueue *queue, uint64_t source)
{
    return &queue->trust[chv_source_hash(source, queue->seed) % CHV_KEYQUEUE_TRUSTED];
}

void chv_keyqueue_trust(struct chv_keyqueue *queue, uint64_t source, uint64_t now)
{
    *trust_of(queue, source) = (struct chv_keyqueue_trust){.source = source, .until = now + CHV_KEYQUEUE_TRUST_MS};
}

/* Behind all others of its ring: just before the one whose turn is next. */
static void ring_add(struct chv_keyqueue *queue, struct chv_keyqueue_source *source)
{
    struct chv_keyqueue_source **turn = &queue->turns[source->trusted];
    if (*turn == NULL) {
        source->prev = source->next = source;
        *turn = source;
        return;
    }
    source->next = *turn;
    source->prev = (*turn)->prev;
    source->prev->next = source;
    source->next->prev = source;
}

static void ring_remove(struct chv_keyqueue *queue, struct chv_keyqueue_source *source)
{
    struct chv_keyqueue_source **turn = &queue->turns[source->trusted];
    if (source->next == source) {
        *turn = NULL;
        return;
    }
    if (*turn == source)
        *turn = source->next;
    source->prev->next = source->next;
    source->next->prev = source->prev;
}

static struct chv_keyqueue_source *source_find(const struct chv_keyqueue *queue, uint64_t key)
{
    struct chv_keyqueue_source *source = *bucket_of(queue, key);
    while (source != NULL && source->key != key)
        source = source->chain;
    return source;
}

/* There is one unused per free entry. */
static struct chv_keyqueue_source *source_add(struct chv_keyqueue *queue, uint64_t key, uint64_t now)
{
    struct chv_keyqueue_source *source = queue->unused, **bucket = bucket_of(queue, key);
    const struct chv_keyqueue_trust *trust = trust_of(queue, key);
    queue->unused = source->next;
    *source = (struct chv_keyqueue_source){
        .key = key, .trusted = trust->source == key && now < trust->until, .chain = *bucket};
    *bucket = source;
    ring_add(queue, source);
    return source;
}

static void source_remove(struct chv_keyqueue *queue, struct chv_keyqueue_source *source)
{
    struct chv_keyqueue_source **at = bucket_of(queue, source->key);
    while (*at != source)
        at = &(*at)->chain;
    *at = source->chain;
    ring_remove(queue, source);
    source->next = queue->unused;
    queue->unused = source;
}

enum chv_err chv_keyqueue_push(struct chv_keyqueue *queue, struct chv_keyqueue_entry *entry, uint64_t source_key,
                               uint64_t now, uint64_t deadline)
{
    if (entry->source != NULL)
        return CHV_ERR_STATE;
    struct chv_keyqueue_source *source = source_find(queue, source_key);
    size_t room = queue->capacity - queue->count;
    if (room == 0 || (source != NULL && source->count >= room))
        return CHV_ERR_BUSY;
    if (source == NULL)
        source = source_add(queue, source_key, now);

    *entry = (struct chv_keyqueue_entry){
        .source = source, .prev = source->last, .older = queue->newest, .deadline = deadline};
    if (source->last != NULL)
        source->last->next = entry;
    else
        source->first = entry;
    source->last = entry;
    if (queue->newest != NULL)
        queue->newest->newer = entry;
    else
        queue->oldest = entry;
    queue->newest = entry;
    source->count++;
    queue->count++;
    return CHV_OK;
}

void chv_keyqueue_cancel(struct chv_keyqueue *queue, struct chv_keyqueue_entry *entry)
{
    struct chv_keyqueue_source *source = entry->source;
    if (source == NULL)
        return;
    *(entry->prev != NULL ? &entry->prev->next : &source->first) = entry->next;
    *(entry->next != NULL ? &entry->next->prev : &source->last) = entry->prev;
    *(entry->older != NULL ? &entry->older->newer : &queue->oldest) = entry->newer;
    *(entry->newer != NULL ? &entry->newer->older : &queue->newest) = entry->older;
    entry->source = NULL;
    queue->count--;
    if (--source->count == 0)
        source_remove(queue, source);
}

struct chv_keyqueue_entry *chv_keyqueue_pop(struct chv_keyqueue *queue)
{
    if (queue->count == 0)
        return NULL;
    bool trusted = queue->turns[1] != NULL;
    if (trusted && queue->turns[0] != NULL && ++queue->turn % CHV_KEYQUEUE_SHARE == 0)
        trusted = false;
    struct chv_keyqueue_source *source = queue->turns[trusted];
    struct chv_keyqueue_entry *entry = source->first;
    queue->turns[trusted] = source->next;
    chv_keyqueue_cancel(queue, entry);
    return entry;
}

struct chv_keyqueue_entry *chv_keyqueue_expire(struct chv_keyqueue *queue, uint64_t now)
{
    struct chv_keyqueue_entry *entry = queue->oldest;
    if (entry == NULL || entry->deadline > now)
        return NULL;
    chv_keyqueue_cancel(queue, entry);
    return entry;
}

bool chv_keyqueue_waits(const struct chv_keyqueue_entry *entry)
{
    return entry->source != NULL;
}
