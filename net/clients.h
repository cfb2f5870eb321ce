/* SPDX-License-Identifier: Apache-2.0 */
/* How many connections each proven client has, in all loops of the net process. */
#ifndef CHV_NET_CLIENTS_H
#define CHV_NET_CLIENTS_H

#include <chaveiro/error.h>

#include "net/control.h"

#include <pthread.h>
#include <stdint.h>

struct chv_clients_entry; /* of a client that has at least one */

/* A connection whose service is open, or is about to be; part of the caller's object, zeroed before its first use. */
struct chv_clients_member {
    struct chv_clients_member *prev, *next; /* of its client */
    struct chv_clients_entry *entry;        /* NULL: not in */
    void *worker;                           /* the caller's */
    uint64_t number;                        /* of the connection, unique */
    bool has_instance;                      /* without one it is of a run of its own */
    uint8_t instance[CHV_INSTANCE_LEN];
};

/* Called with the lock held: it may not call back. */
typedef void (*chv_clients_other_fn)(void *arg, const struct chv_clients_member *other);

struct chv_clients {
    pthread_mutex_t lock;
    struct chv_clients_entry *first[4096]; /* by hash of the id */
};

enum chv_err chv_clients_init(struct chv_clients *clients) CHV_MUST_CHECK;
/* Every connection must have been given back. */
void chv_clients_free(struct chv_clients *clients);
/*
 * One connection more for the client `id` (copied), to be given back with *entry. CHV_ERR_BUSY: it has `limit` already.
 * From any thread.
 */
enum chv_err chv_clients_take(struct chv_clients *clients, const char *id, unsigned limit,
                              struct chv_clients_entry **entry) CHV_MUST_CHECK;
void chv_clients_give(struct chv_clients *clients, struct chv_clients_entry *entry);

/*
 * `member` joins the connections of `entry`'s client; `each` is told those of other runs. With `alone` it joins only if
 * there is none but those with one of these numbers: else CHV_ERR_EXISTS. From any thread.
 */
enum chv_err chv_clients_join(struct chv_clients *clients, struct chv_clients_entry *entry,
                              struct chv_clients_member *member, bool alone, const uint64_t *passed,
                              size_t passed_count, chv_clients_other_fn each, void *arg) CHV_MUST_CHECK;
/* One that is not in stays so. To be called before chv_clients_give. */
void chv_clients_leave(struct chv_clients *clients, struct chv_clients_member *member);

#endif
