/* SPDX-License-Identifier: Apache-2.0 */
/* How many connections each proven client has, in all loops of the net process. */
#ifndef CHV_NET_CLIENTS_H
#define CHV_NET_CLIENTS_H

#include <chaveiro/error.h>

#include <pthread.h>
#include <stdint.h>

struct chv_clients_entry; /* of a client that has at least one */

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

#endif
