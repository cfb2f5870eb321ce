/* SPDX-License-Identifier: Apache-2.0 */
#include "net/clients.h"

#include <stdlib.h>
#include <string.h>

struct chv_clients_entry {
    struct chv_clients_entry *next;
    size_t bucket;
    unsigned count;
    struct chv_clients_member *members;
    char id[];
};

enum { BUCKETS = sizeof((struct chv_clients *)NULL)->first / sizeof(struct chv_clients_entry *) };

/* FNV-1a: ids come from whoever has the master, so that nobody can choose them to collide. */
static size_t bucket_of(const char *id)
{
    uint32_t hash = 2166136261U;
    for (; *id != '\0'; id++)
        hash = (hash ^ (unsigned char)*id) * 16777619U;
    return hash % BUCKETS;
}

enum chv_err chv_clients_init(struct chv_clients *clients)
{
    memset(clients, 0, sizeof *clients);
    return pthread_mutex_init(&clients->lock, NULL) == 0 ? CHV_OK : CHV_ERR_MEMORY;
}

void chv_clients_free(struct chv_clients *clients)
{
    (void)pthread_mutex_destroy(&clients->lock);
}

static struct chv_clients_entry *add(struct chv_clients *clients, const char *id, size_t bucket)
{
    size_t size = strlen(id) + 1;
    struct chv_clients_entry *e = malloc(sizeof *e + size);
    if (e == NULL)
        return NULL;
    *e = (struct chv_clients_entry){.next = clients->first[bucket], .bucket = bucket};
    memcpy(e->id, id, size);
    clients->first[bucket] = e;
    return e;
}

enum chv_err chv_clients_take(struct chv_clients *clients, const char *id, unsigned limit,
                              struct chv_clients_entry **entry)
{
    size_t bucket = bucket_of(id);
    enum chv_err err = limit > 0 ? CHV_OK : CHV_ERR_BUSY;
    pthread_mutex_lock(&clients->lock);
    struct chv_clients_entry *e = clients->first[bucket];
    while (e != NULL && strcmp(e->id, id) != 0)
        e = e->next;
    if (e != NULL && e->count >= limit)
        err = CHV_ERR_BUSY;
    if (err == CHV_OK && e == NULL)
        e = add(clients, id, bucket);
    if (err == CHV_OK && e == NULL)
        err = CHV_ERR_MEMORY;
    if (err == CHV_OK) {
        e->count++;
        *entry = e;
    }
    pthread_mutex_unlock(&clients->lock);
    return err;
}

void chv_clients_give(struct chv_clients *clients, struct chv_clients_entry *entry)
{
    pthread_mutex_lock(&clients->lock);
    if (--entry->count == 0) {
        struct chv_clients_entry **at = &clients->first[entry->bucket];
        while (*at != entry)
            at = &(*at)->next;
        *at = entry->next;
        free(entry);
    }
    pthread_mutex_unlock(&clients->lock);
}

static bool same_run(const struct chv_clients_member *a, const struct chv_clients_member *b)
{
    return a->has_instance && b->has_instance && memcmp(a->instance, b->instance, sizeof a->instance) == 0;
}

static bool is_one_of(uint64_t number, const uint64_t *numbers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (numbers[i] == number)
            return true;
    return false;
}

enum chv_err chv_clients_join(struct chv_clients *clients, struct chv_clients_entry *entry,
                              struct chv_clients_member *member, bool alone, const uint64_t *passed,
                              size_t passed_count, chv_clients_other_fn each, void *arg)
{
    enum chv_err err = CHV_OK;
    pthread_mutex_lock(&clients->lock);
    for (const struct chv_clients_member *m = entry->members; m != NULL; m = m->next) {
        if (same_run(m, member) || is_one_of(m->number, passed, passed_count))
            continue;
        each(arg, m);
        if (alone)
            err = CHV_ERR_EXISTS;
    }
    if (err == CHV_OK) {
        member->entry = entry;
        member->next = entry->members;
        if (member->next != NULL)
            member->next->prev = member;
        entry->members = member;
    }
    pthread_mutex_unlock(&clients->lock);
    return err;
}

void chv_clients_leave(struct chv_clients *clients, struct chv_clients_member *member)
{
    if (member->entry == NULL)
        return;
    pthread_mutex_lock(&clients->lock);
    *(member->prev != NULL ? &member->prev->next : &member->entry->members) = member->next;
    if (member->next != NULL)
        member->next->prev = member->prev;
    pthread_mutex_unlock(&clients->lock);
    member->entry = NULL;
    member->prev = member->next = NULL;
}
