/* SPDX-License-Identifier: Apache-2.0 */
/* A client and a server session in one process, with the keys that a keystore and a keeper would hold. */
#ifndef CHV_TESTS_CORE_PAIR_H
#define CHV_TESTS_CORE_PAIR_H

#include "core/credential.h"
#include "tests/support/test_backend.h"

#include <chaveiro/session.h>

struct pair_identity {
    struct chv_dh *key;
    uint8_t public_key[CHV_DH_PUBLIC_MAX];
};

struct pair {
    struct chv_crypto real;
    struct chv_crypto client_crypto, server_crypto; /* `real` unless a test puts another one here */
    enum chv_profile profile;
    enum chv_suite suite;
    uint8_t master[32];
    uint8_t access[32];        /* the client's own copy */
    const char *server_name;   /* the keeper's */
    const char *wanted_server; /* the client's */
    bool epoch_known;          /* else the keeper's answer is random */
    bool peer_allowed;
    struct chv_credential credential;
    uint8_t credential_bytes[CHV_CREDENTIAL_MAX];
    size_t credential_len;
    struct pair_identity client_identity, server_identity;
    void *client_memory, *server_memory;
    struct chv_session *client, *server;
    /* Resumption: what the client comes with, and the answer of whoever holds ticket keys (NULL: 401). */
    const uint8_t *ticket;
    size_t ticket_len;
    uint8_t resumption[CHV_KEY_LEN];
    const struct chv_session_ticket *taken;
    unsigned questions; /* asked of either side */
};

/* Keys, credential (id "1", scope message) and fresh sessions.  Fails the running test on an error. */
void pair_open(struct pair *p, enum chv_profile profile, enum chv_suite suite);
/* Encodes p->credential again and derives the access key that the master gives for it. */
void pair_provision(struct pair *p);
/* New sessions with the same keys; the old ones are wiped. */
enum chv_err pair_start(struct pair *p);
/* Wipes both sessions: before client_crypto or server_crypto is changed. */
void pair_stop(struct pair *p);
void pair_close(struct pair *p);

/* The answer to a DH or PSK question of p->client or p->server: what a client's keystore or a keeper would compute. */
enum chv_err pair_secret(struct pair *p, const struct chv_session *s, const struct chv_key_request *q,
                         uint8_t secret[CHV_KEY_LEN]);
/* Answers one question as a client's keystore or as a keeper would. */
enum chv_err pair_answer(struct pair *p, struct chv_session *s);
/* Answers all questions that are out. */
enum chv_err pair_answer_all(struct pair *p, struct chv_session *s);
/* Takes what the session has to send, at most cap bytes; its number. */
size_t pair_take(struct chv_session *s, uint8_t *out, size_t cap);
/* Gives bytes in pieces of `step`, answering questions between them; the session's error. */
enum chv_err pair_give(struct pair *p, struct chv_session *s, const uint8_t *buf, size_t len, size_t step);
/* The whole handshake; CHV_OK when both are open, else the first error of either. */
enum chv_err pair_handshake(struct pair *p);
/* Handshake and OPEN, asserted. */
void pair_connect(struct pair *p);

/* Seals one record; its length. */
size_t pair_seal(struct chv_session *s, uint8_t type, const void *body, size_t len, uint8_t *frame);

#endif
