/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of the token keystore (doc/tokens.md), for keystore/token*.c and their tests only.
 *
 * An object's CKA_LABEL and CKA_ID are "NAME:LABEL": NAME is the URI's object=, else "chaveiro"; LABEL the keystore's.  So
 * one token holds several keystores, and strangers' objects are never touched.
 */
#ifndef CHV_KEYSTORE_TOKEN_H
#define CHV_KEYSTORE_TOKEN_H

#include "keystore/keystore.h"
#include "p11/object.h"

enum {
    CHV_TOKEN_LABEL_MAX = CHV_P11_OBJECT_MAX + 1 + CHV_LABEL_MAX,
    CHV_TOKEN_CACHE = 32,     /* keys whose handles are kept; a server has one or two */
    CHV_TOKEN_LOOK_MS = 1000, /* how long a copy in the session serves before its original is looked for */
};

/* How a secret derives: the same bytes by each (doc/tokens.md). */
enum chv_token_rung { CHV_TOKEN_HMAC, CHV_TOKEN_HKDF, CHV_TOKEN_SP800_108 };

/* What was found under a label. */
struct chv_token_entry {
    char label[CHV_LABEL_MAX + 1]; /* "" : free */
    unsigned long generation;      /* handles hold while the session's is the same */
    unsigned long pool;            /* of the session: a copy in it is there while this is the same */
    enum chv_key_use use;
    enum chv_curve curve;          /* key pairs */
    CK_OBJECT_HANDLE key;          /* the secret, or its copy in the session, or the private key */
    CK_OBJECT_HANDLE public_key;   /* key pairs; CK_INVALID_HANDLE if there is none */
    CK_OBJECT_HANDLE original;     /* of a copy in the session; CK_INVALID_HANDLE if `key` is none */
    uint64_t looked;               /* when it was last seen in the token, monotonic milliseconds */
    uint8_t check[CHV_SECRET_LEN]; /* secrets: what is derived for a fixed info, to know the key again */
};

struct chv_token_store {
    struct chv_keystore base;
    enum chv_keystore_mode mode;
    struct chv_p11_uri uri;
    struct chv_p11_token *token;
    struct chv_crypto crypto; /* the second step of derive2 */
    const char *where;        /* the token's name, for texts */
    const char *name;         /* first half of every label */
    enum chv_token_rung rung;
    bool unlocked;
    bool copy_told; /* that a session copy was wanted and is not to be had */
    struct chv_token_entry cache[CHV_TOKEN_CACHE];
    size_t oldest;
};

/* Everything of one label, strangers included: handles and how many. */
struct chv_token_found {
    CK_OBJECT_HANDLE secret, private_key, public_key, data;
    unsigned secrets, private_keys, public_keys, datas;
};

/* ---- token_object.c: objects behind labels ---- */

void chv_token_label(const struct chv_token_store *s, const char *label, char out[CHV_TOKEN_LABEL_MAX + 1]);
/* CHV_OK if there is nothing too.  CHV_ERR_KEY if two of a kind have the label. */
enum chv_err chv_token_find(struct chv_token_store *store, struct chv_p11_session *s, const char *label,
                            struct chv_token_found *found, struct chv_why *why) CHV_MUST_CHECK;
/* The key of that label if its use is `use`, its attributes checked; from the cache where it still holds. */
enum chv_err chv_token_key(struct chv_token_store *store, struct chv_p11_session *s, const char *label,
                           enum chv_key_use use, const struct chv_token_entry **entry,
                           struct chv_why *why) CHV_MUST_CHECK;
/* The key pair of that label, whatever its use. */
enum chv_err chv_token_pair(struct chv_token_store *store, struct chv_p11_session *s, const char *label,
                            const struct chv_token_entry **entry, struct chv_why *why) CHV_MUST_CHECK;
void chv_token_forget(struct chv_token_store *store, const char *label);
/* Calls `each` for every key of this keystore in label order, without a session in hand. */
enum chv_err chv_token_list(struct chv_token_store *store, chv_key_fn each, void *arg,
                            struct chv_why *why) CHV_MUST_CHECK;

/*
 * Looks at every key of this keystore, by one search of the token: CHV_ERR_KEY, naming key and attribute, if one is not as
 * its use wants it.  Above HMAC the secrets are probed, too.
 */
enum chv_err chv_token_inspect(struct chv_token_store *store, struct chv_why *why) CHV_MUST_CHECK;

/* ---- token_derive.c: the rungs ---- */

/* CHV_ERR_CONFIG for an unknown name; "" is CHV_TOKEN_HMAC. */
enum chv_err chv_token_rung_find(const char *name, enum chv_token_rung *rung, struct chv_why *why) CHV_MUST_CHECK;
/* HKDF-Expand, SHA-256, L = 32. */
enum chv_err chv_token_expand(struct chv_p11_session *s, CK_OBJECT_HANDLE key, enum chv_token_rung rung,
                              const uint8_t *info, size_t info_len, uint8_t out[CHV_SECRET_LEN],
                              struct chv_why *why) CHV_MUST_CHECK;
/* ---- token_probe.c: what a key that may derive must stand ---- */

/*
 * Tries to get at the key by every mechanism that gives out its bytes or makes a key that does: C_DeriveKey, and C_WrapKey
 * by each way that the token has.  CHV_ERR_KEY if one works, and *way (NULL if not wanted) is its name, static storage;
 * another error, and *way NULL, if the token's answer is no refusal.  Either way the rungs above HMAC must not be used.
 * Makes session objects and destroys them; an RSA key pair among them can take a second.
 */
enum chv_err chv_token_probe(struct chv_p11_session *s, CK_OBJECT_HANDLE key, const char *label, const char **way,
                             struct chv_why *why) CHV_MUST_CHECK;

#endif
