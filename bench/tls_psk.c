/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/tls_psk.h"

#include "bench/net.h"

/* As stunnel has it in its PSKsecrets (bench/tunnels.py). */
static const unsigned char identity[] = "benchmark";
enum { SECRET_LEN = 32 };

static SSL_SESSION *psk_session;

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

static void make_session(SSL_CTX *context)
{
    unsigned char secret[SECRET_LEN];
    SSL *s = SSL_new(context);
    psk_session = SSL_SESSION_new();
    net_must(s != NULL && psk_session != NULL, "TLS session");
    for (int i = 0; i < SECRET_LEN; i++)
        secret[i] = (unsigned char)(0x01 + 0x22 * (i % 8)); /* 0123456789abcdef... */
    net_must(SSL_SESSION_set1_master_key(psk_session, secret, sizeof secret) == 1 &&
                 SSL_SESSION_set_cipher(psk_session, sk_SSL_CIPHER_value(SSL_get_ciphers(s), 0)) == 1 &&
                 SSL_SESSION_set_protocol_version(psk_session, TLS1_3_VERSION) == 1,
             "TLS session");
    SSL_free(s);
}

SSL_CTX *tls_psk_context(const SSL_METHOD *method, const char *suite)
{
    const char *name = strcmp(suite, "256") == 0 ? "TLS_AES_256_GCM_SHA384" : "TLS_AES_128_GCM_SHA256";
    SSL_CTX *c = SSL_CTX_new(method);
    net_must(c != NULL && SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION) == 1 &&
                 SSL_CTX_set_ciphersuites(c, name) == 1 && SSL_CTX_set1_groups_list(c, "X25519") == 1 &&
                 SSL_CTX_set_num_tickets(c, 0) == 1,
             name);
    SSL_CTX_set_options(c, SSL_OP_NO_TICKET);
    SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(c, SSL_MODE_RELEASE_BUFFERS); /* an idle connection holds none */
    SSL_CTX_set_psk_use_session_callback(c, psk_use);
    SSL_CTX_set_psk_find_session_callback(c, psk_find);
    make_session(c);
    return c;
}

SSL *tls_psk_new(SSL_CTX *context, int fd, int server)
{
    SSL *s = SSL_new(context);
    net_must(s != NULL && SSL_set_fd(s, fd) == 1, "SSL_new");
    if (server)
        SSL_set_accept_state(s);
    else
        SSL_set_connect_state(s);
    return s;
}
