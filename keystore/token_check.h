/* SPDX-License-Identifier: Apache-2.0 */
/* What a token can do, tried out: for `keyadmin token check`. */
#ifndef CHV_KEYSTORE_TOKEN_CHECK_H
#define CHV_KEYSTORE_TOKEN_CHECK_H

#include "keystore/token_answers.h"
#include "p11/token.h"

enum { CHV_TOKEN_MECHANISMS = 12, CHV_TOKEN_RUNGS = 3, CHV_TOKEN_SUITES = 3 };

enum chv_token_answer {
    CHV_TOKEN_ABSENT, /* the token cannot do it, or not with a key that stays inside */
    CHV_TOKEN_EQUAL,  /* it gives the bytes that OpenSSL gives */
    CHV_TOKEN_WRONG   /* it gives others */
};

struct chv_token_check {
    char name[512]; /* label, serial, module */
    struct chv_p11_token_info info;
    struct {
        const char *name; /* "CKM_SHA256_HMAC" */
        bool there;
    } mechanisms[CHV_TOKEN_MECHANISMS];
    size_t mechanism_count;
    struct chv_token_known known[CHV_TOKEN_KNOWN_MAX];
    size_t known_count;
    bool p256, x25519; /* key pairs made and ECDH done */
    struct {
        bool opens;         /* as a backend: its trials and its self-test passed */
        bool needs_login;   /* not before somebody had logged in */
        struct chv_why why; /* where it does not open */
        struct {
            const char *name;
            bool there;
            char lacks[400]; /* what the backend says that is missing */
        } suites[CHV_TOKEN_SUITES];
    } backend;
    bool test_keys; /* the token takes keys for this check: without them the rest is not known */
    struct {
        const char *name; /* "hmac", as chaveiro-derive= has it */
        enum chv_token_answer answer;
    } rungs[CHV_TOKEN_RUNGS];
    char leak[64];        /* "", or what gave the bytes of a key out that may only sign: "CKM_AES_KEY_WRAP" */
    char derive_leak[64]; /* the same for one that may derive */
    char unproved[256];   /* "", or the answer that was neither a refusal nor a key's bytes */
    double hmac_rate;     /* C_Sign per second, a key of the session; 0: not measured */
    double derive_rate;   /* chv_keystore_derive per second by the first secret in it; 0: there is none */
    char derive_label[65];
};

/*
 * Opens the token that the URI names, logs in and tries, and opens it as a backend: before the login, as a server does
 * whose URI has no pin-source, and with it if it does not go without.  Keys made for it are session objects, destroyed at the end:
 * the token holds then what it held before.  Takes about a second.
 */
enum chv_err chv_token_check(const char *uri, chv_secret_fn secret, void *arg, struct chv_token_check *check,
                             struct chv_why *why) CHV_MUST_CHECK;

#endif
