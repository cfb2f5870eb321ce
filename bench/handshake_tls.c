/* SPDX-License-Identifier: Apache-2.0 */
/* OpenSSL's TLS 1.3 with an external PSK, psk_dhe_ke over X25519, no tickets, between BIO pairs. */
#include "bench/handshake.h"

#include <openssl/ssl.h>

#include <string.h>

static const unsigned char identity[] = "camera-1";

static SSL_CTX *context[2];
static SSL_SESSION *psk_session;
static SSL *ssl[2][BATCH];

/* A session that is ready and shared: cheaper than what a server pays that looks its key up. */
static int psk_use(SSL *s, const EVP_MD *md, const unsigned char **id, size_t *id_len, SSL_SESSION **session)
{
    (void)s;
    (void)md;
    SSL_SESSION_up_ref(psk_session);
    *id = identity;
    *id_len = sizeof identity - 1;
    *session = psk_session;
    return 1;
}

static int psk_find(SSL *s, const unsigned char *id, size_t id_len, SSL_SESSION **session)
{
    (void)s;
    if (id_len == sizeof identity - 1 && memcmp(id, identity, id_len) == 0) {
        SSL_SESSION_up_ref(psk_session);
        *session = psk_session;
    }
    return 1;
}

static SSL_CTX *make_context(const SSL_METHOD *method, const char *suite)
{
    SSL_CTX *c = SSL_CTX_new(method);

    require(c != NULL && SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION) == 1 &&
                SSL_CTX_set_ciphersuites(c, suite) == 1 && SSL_CTX_set1_groups_list(c, "X25519") == 1 &&
                SSL_CTX_set_num_tickets(c, 0) == 1,
            suite);
    SSL_CTX_set_options(c, SSL_OP_NO_TICKET);
    SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
    return c;
}

void tls_open(const struct chv_crypto *crypto, const char *arg)
{
    static const unsigned char key[CHV_KEY_LEN] = {1};

    (void)crypto;
    context[CLIENT] = make_context(TLS_client_method(), arg);
    context[SERVER] = make_context(TLS_server_method(), arg);
    SSL_CTX_set_psk_use_session_callback(context[CLIENT], psk_use);
    SSL_CTX_set_psk_find_session_callback(context[SERVER], psk_find);
    SSL *s = SSL_new(context[CLIENT]);
    psk_session = SSL_SESSION_new();
    require(s != NULL && psk_session != NULL, "TLS session");
    const SSL_CIPHER *cipher = sk_SSL_CIPHER_value(SSL_get_ciphers(s), 0);
    require(SSL_SESSION_set1_master_key(psk_session, key, sizeof key) == 1 &&
                SSL_SESSION_set_cipher(psk_session, cipher) == 1 &&
                SSL_SESSION_set_protocol_version(psk_session, TLS1_3_VERSION) == 1,
            "TLS session");
    SSL_free(s);
}

void tls_close(void)
{
    SSL_SESSION_free(psk_session);
    SSL_CTX_free(context[CLIENT]);
    SSL_CTX_free(context[SERVER]);
}

static void new_all(int side, BIO *bio[BATCH])
{
    for (int i = 0; i < BATCH; i++) {
        ssl[side][i] = SSL_new(context[side]);
        require(ssl[side][i] != NULL, "SSL_new");
        SSL_set_bio(ssl[side][i], bio[i], bio[i]);
        if (side == CLIENT)
            SSL_set_connect_state(ssl[side][i]);
        else
            SSL_set_accept_state(ssl[side][i]);
    }
}

static void shake_all(int side, bool last)
{
    for (int i = 0; i < BATCH; i++) {
        const int result = SSL_do_handshake(ssl[side][i]);
        require(last ? result == 1 : SSL_get_error(ssl[side][i], result) == SSL_ERROR_WANT_READ, "TLS handshake");
    }
}

void tls_run(struct cost *cost)
{
    BIO *bio[2][BATCH];

    for (int i = 0; i < BATCH; i++)
        require(BIO_new_bio_pair(&bio[CLIENT][i], 0, &bio[SERVER][i], 0) == 1, "BIO pair");
    double start = cpu_us();
    for (int side = CLIENT; side <= SERVER; side++) {
        new_all(side, bio[side]);
        lap(&start, &cost->setup[side]);
    }
    shake_all(CLIENT, false);
    lap(&start, &cost->handshake[CLIENT]);
    shake_all(SERVER, false);
    lap(&start, &cost->handshake[SERVER]);
    shake_all(CLIENT, true);
    lap(&start, &cost->handshake[CLIENT]);
    shake_all(SERVER, true);
    lap(&start, &cost->handshake[SERVER]);
    require(SSL_session_reused(ssl[SERVER][0]) == 1 && SSL_session_reused(ssl[CLIENT][0]) == 1, "TLS PSK");
    start = cpu_us();
    for (int side = CLIENT; side <= SERVER; side++) {
        for (int i = 0; i < BATCH; i++)
            SSL_free(ssl[side][i]);
        lap(&start, &cost->setup[side]);
    }
}
