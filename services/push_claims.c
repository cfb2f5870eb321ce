/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "services/push_claims.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/credential.h"

struct chv_push_claims {
    struct chv_push_claims *next;
    char id[CHV_CLIENT_ID_MAX + 1];
    void (*wake)(void *arg);
    void *arg;
    size_t count;
    uint8_t entries[CHV_PUSH_WINDOW][CHV_PUSH_ID_LEN];
};

enum { BUCKETS = 256 };

/* Connections, by their client's id. */
static pthread_mutex_t claims_lock = PTHREAD_MUTEX_INITIALIZER;
static struct chv_push_claims *buckets[BUCKETS];

static struct chv_push_claims **bucket_of(const char *id)
{
    uint32_t hash = 2166136261; /* FNV-1a: ids are the operator's choice, not the clients' */
    for (; *id != '\0'; id++)
        hash = (hash ^ (uint8_t)*id) * 16777619;
    return &buckets[hash % BUCKETS];
}

enum chv_err chv_push_claims_new(const char *id, void (*wake)(void *arg), void *arg, struct chv_push_claims **claims)
{
    struct chv_push_claims *c = calloc(1, sizeof *c);
    if (c == NULL)
        return CHV_ERR_MEMORY;
    memcpy(c->id, id, strlen(id) + 1);
    c->wake = wake;
    c->arg = arg;
    (void)pthread_mutex_lock(&claims_lock);
    struct chv_push_claims **bucket = bucket_of(id);
    c->next = *bucket;
    *bucket = c;
    (void)pthread_mutex_unlock(&claims_lock);
    *claims = c;
    return CHV_OK;
}

/* Under the lock. */
static void wake_others(const struct chv_push_claims *claims)
{
    for (const struct chv_push_claims *c = *bucket_of(claims->id); c != NULL; c = c->next)
        if (c != claims && strcmp(c->id, claims->id) == 0)
            c->wake(c->arg);
}

void chv_push_claims_free(struct chv_push_claims *claims)
{
    if (claims == NULL)
        return;
    (void)pthread_mutex_lock(&claims_lock);
    for (struct chv_push_claims **at = bucket_of(claims->id); *at != NULL; at = &(*at)->next)
        if (*at == claims) {
            *at = claims->next;
            break;
        }
    if (claims->count > 0)
        wake_others(claims);
    (void)pthread_mutex_unlock(&claims_lock);
    free(claims);
}

static size_t find(const struct chv_push_claims *c, const uint8_t id[CHV_PUSH_ID_LEN])
{
    size_t i = 0;
    while (i < c->count && memcmp(c->entries[i], id, CHV_PUSH_ID_LEN) != 0)
        i++;
    return i;
}

static bool is_claimed(const struct chv_push_claims *claims, const uint8_t id[CHV_PUSH_ID_LEN])
{
    bool found = false;
    for (const struct chv_push_claims *c = *bucket_of(claims->id); c != NULL && !found; c = c->next)
        found = strcmp(c->id, claims->id) == 0 && find(c, id) < c->count;
    return found;
}

bool chv_push_claim(struct chv_push_claims *claims, const uint8_t id[CHV_PUSH_ID_LEN])
{
    (void)pthread_mutex_lock(&claims_lock);
    bool taken = claims->count < CHV_PUSH_WINDOW && !is_claimed(claims, id);
    if (taken)
        memcpy(claims->entries[claims->count++], id, CHV_PUSH_ID_LEN);
    (void)pthread_mutex_unlock(&claims_lock);
    return taken;
}

void chv_push_unclaim(struct chv_push_claims *claims, const uint8_t id[CHV_PUSH_ID_LEN], bool wake)
{
    (void)pthread_mutex_lock(&claims_lock);
    const size_t i = find(claims, id);
    if (i < claims->count) {
        memmove(claims->entries[i], claims->entries[--claims->count], CHV_PUSH_ID_LEN);
        if (wake)
            wake_others(claims);
    }
    (void)pthread_mutex_unlock(&claims_lock);
}

bool chv_push_claimed(const struct chv_push_claims *claims, const uint8_t id[CHV_PUSH_ID_LEN])
{
    (void)pthread_mutex_lock(&claims_lock);
    bool claimed = is_claimed(claims, id);
    (void)pthread_mutex_unlock(&claims_lock);
    return claimed;
}
