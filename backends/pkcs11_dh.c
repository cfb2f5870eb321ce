/* SPDX-License-Identifier: Apache-2.0 */
/* Diffie-Hellman by a token: private keys as session objects; results are read back, since Noise mixes them outside. */
#include <stdlib.h>
#include <string.h>

#include "backends/pkcs11_private.h"
#include "base/memory.h"

struct chv_dh {
    struct pkcs11_ctx *owner;
    enum chv_curve curve;
    struct pkcs11_key key;
};

struct pair_call {
    struct pkcs11_ctx *owner;
    enum chv_curve curve;
    const uint8_t *private_value; /* import */
    struct pkcs11_key key;
    uint8_t public_key[CHV_DH_PUBLIC_MAX];
};

static enum chv_err finish_dh(const struct pair_call *call, struct chv_dh **key, uint8_t *public_out)
{
    struct chv_dh *dh = malloc(sizeof *dh);
    if (dh == NULL) {
        struct pkcs11_key made = call->key;
        chv_pkcs11_destroy(call->owner, &made);
        return CHV_ERR_MEMORY;
    }
    *dh = (struct chv_dh){.owner = call->owner, .curve = call->curve, .key = call->key};
    memcpy(public_out, call->public_key, chv_dh_public_len(call->curve));
    *key = dh;
    return CHV_OK;
}

static enum chv_err generate_work(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    struct pair_call *call = arg;
    const struct chv_p11_pair pair = {.curve = call->curve, .open = !call->owner->private_keys};
    CK_OBJECT_HANDLE public_object;
    call->owner->objects += 2;
    enum chv_err err = chv_p11_pair_make(s, &pair, &call->key.object, &public_object, call->public_key, why);
    if (err != CHV_OK)
        return err;
    chv_pkcs11_destroy_object(s, public_object); /* its bytes are here */
    call->key.pool = s->pool;
    call->key.there = true;
    return CHV_OK;
}

enum chv_err chv_pkcs11_dh_generate(void *ctx, enum chv_curve curve, struct chv_dh **key, uint8_t *public_out)
{
    struct pair_call call = {.owner = ctx, .curve = curve};
    enum chv_err err = chv_pkcs11_run(ctx, generate_work, &call);
    return err == CHV_OK ? finish_dh(&call, key, public_out) : err;
}

static enum chv_err import_work(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    struct pair_call *call = arg;
    const struct chv_p11_pair pair = {.curve = call->curve, .open = !call->owner->private_keys};
    call->owner->objects++;
    enum chv_err err = chv_p11_pair_import(s, &pair, call->private_value, call->public_key, &call->key.object, why);
    call->key.pool = s->pool;
    call->key.there = err == CHV_OK;
    return err;
}

/* Cryptoki has no call that gives the public half of a private key: software computes it, and checks the scalar. */
enum chv_err chv_pkcs11_dh_import(void *ctx, enum chv_curve curve, const uint8_t private_key[CHV_DH_PRIVATE_LEN],
                                  struct chv_dh **key, uint8_t *public_out)
{
    struct pkcs11_ctx *c = ctx;
    struct pair_call call = {.owner = c, .curve = curve, .private_value = private_key};
    struct chv_dh *software = NULL;
    enum chv_err err = chv_pkcs11_software(c, &c->last);
    if (err == CHV_OK)
        err = chv_crypto_dh_import(&c->software, curve, private_key, &software, call.public_key);
    chv_crypto_dh_free(&c->software, software);
    if (err == CHV_OK)
        err = chv_pkcs11_run(c, import_work, &call);
    return err == CHV_OK ? finish_dh(&call, key, public_out) : err;
}

struct derive_call {
    struct chv_dh *dh;
    const uint8_t *peer_public;
    uint8_t shared[CHV_KEY_LEN];
};

static enum chv_err derive_work(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    struct derive_call *call = arg;
    enum chv_err err = chv_pkcs11_check_key(&call->dh->key, s, why);
    call->dh->owner->objects++;
    return err != CHV_OK ? err
                         : chv_p11_ecdh(s, call->dh->key.object, call->dh->curve, call->peer_public, call->shared, why);
}

enum chv_err chv_pkcs11_dh_derive(struct chv_dh *key, const uint8_t *peer_public, uint8_t shared_out[CHV_KEY_LEN])
{
    struct derive_call call = {.dh = key, .peer_public = peer_public};
    enum chv_err err = chv_pkcs11_run(key->owner, derive_work, &call);
    if (err == CHV_OK)
        memcpy(shared_out, call.shared, sizeof call.shared);
    chv_wipe(call.shared, sizeof call.shared);
    return err;
}

void chv_pkcs11_dh_free(struct chv_dh *key)
{
    if (key == NULL)
        return;
    chv_pkcs11_destroy(key->owner, &key->key);
    free(key);
}
