/* SPDX-License-Identifier: Apache-2.0 */
/* What a keystore file holds: a sorted table of keys in secure memory, one of data items, and their JSON. */
#include "keystore/file.h"

#include <jansson.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/encode.h"
#include "base/memory.h"

/* ---- the tables ---- */

/* Where `label` is or would be, in a table of `count` elements of `size` bytes reached by `get`. */
static size_t key_place(const struct chv_file_contents *c, const char *label, bool *found)
{
    size_t low = 0, high = c->key_count;
    *found = false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(c->keys[middle].label, label);
        if (order == 0) {
            *found = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static size_t item_place(const struct chv_file_contents *c, const char *label, bool *found)
{
    size_t i = 0;
    while (i < c->item_count && strcmp(c->items[i]->label, label) < 0)
        i++;
    *found = i < c->item_count && strcmp(c->items[i]->label, label) == 0;
    return i;
}

struct chv_file_key *chv_file_find_key(const struct chv_file_contents *c, const char *label)
{
    bool found;
    size_t i = key_place(c, label, &found);
    return found ? &c->keys[i] : NULL;
}

const struct chv_file_item *chv_file_find_item(const struct chv_file_contents *c, const char *label)
{
    bool found;
    size_t i = item_place(c, label, &found);
    return found ? c->items[i] : NULL;
}

static enum chv_err grow_keys(struct chv_file_contents *c)
{
    if (c->key_count < c->key_room)
        return CHV_OK;
    size_t room = c->key_room == 0 ? 16 : 2 * c->key_room;
    struct chv_file_key *keys = chv_secure_alloc(room * sizeof *keys);
    if (keys == NULL)
        return CHV_ERR_MEMORY;
    if (c->key_count > 0)
        memcpy(keys, c->keys, c->key_count * sizeof *keys);
    chv_secure_free(c->keys, c->key_room * sizeof *keys);
    c->keys = keys;
    c->key_room = room;
    return CHV_OK;
}

enum chv_err chv_file_add_key(struct chv_file_contents *c, const char *label, enum chv_key_use use,
                              enum chv_curve curve, const uint8_t secret[CHV_SECRET_LEN])
{
    bool found;
    struct chv_dh *dh = NULL;
    uint8_t public_key[CHV_DH_PUBLIC_MAX] = {0};
    size_t i = key_place(c, label, &found);
    if (found || chv_file_find_item(c, label) != NULL)
        return CHV_ERR_EXISTS;
    enum chv_err err = grow_keys(c);
    if (err == CHV_OK && use != CHV_USE_SECRET)
        err = chv_crypto_dh_import(c->crypto, curve, secret, &dh, public_key);
    if (err != CHV_OK)
        return err;
    struct chv_file_key *key = &c->keys[i];
    memmove(key + 1, key, (c->key_count - i) * sizeof *key);
    memset(key, 0, sizeof *key);
    memcpy(key->label, label, strlen(label) + 1);
    key->use = use;
    key->curve = curve;
    key->dh = dh;
    memcpy(key->secret, secret, CHV_SECRET_LEN);
    memcpy(key->public_key, public_key, sizeof public_key);
    c->key_count++;
    return CHV_OK;
}

enum chv_err chv_file_put_item(struct chv_file_contents *c, const char *label, const uint8_t *data, size_t len)
{
    bool found;
    if (chv_file_find_key(c, label) != NULL)
        return CHV_ERR_EXISTS;
    if (c->item_count == c->item_room) {
        size_t room = c->item_room == 0 ? 16 : 2 * c->item_room;
        struct chv_file_item **items = reallocarray(c->items, room, sizeof(struct chv_file_item *));
        if (items == NULL)
            return CHV_ERR_MEMORY;
        c->items = items;
        c->item_room = room;
    }
    struct chv_file_item *item = calloc(1, sizeof *item + len);
    if (item == NULL)
        return CHV_ERR_MEMORY;
    memcpy(item->label, label, strlen(label) + 1);
    item->len = len;
    if (len > 0)
        memcpy(item->bytes, data, len);
    size_t i = item_place(c, label, &found);
    if (found) {
        free(c->items[i]);
    } else {
        memmove(&c->items[i + 1], &c->items[i], (c->item_count - i) * sizeof(struct chv_file_item *));
        c->item_count++;
    }
    c->items[i] = item;
    return CHV_OK;
}

enum chv_err chv_file_remove(struct chv_file_contents *c, const char *label)
{
    bool found;
    size_t i = key_place(c, label, &found);
    if (found) {
        struct chv_file_key *key = &c->keys[i];
        chv_crypto_dh_free(c->crypto, key->dh);
        memmove(key, key + 1, (c->key_count - i - 1) * sizeof *key);
        c->key_count--;
        chv_wipe(&c->keys[c->key_count], sizeof *key);
        return CHV_OK;
    }
    i = item_place(c, label, &found);
    if (!found)
        return CHV_ERR_NOT_FOUND;
    free(c->items[i]);
    memmove(&c->items[i], &c->items[i + 1], (c->item_count - i - 1) * sizeof(struct chv_file_item *));
    c->item_count--;
    return CHV_OK;
}

void chv_file_contents_free(struct chv_file_contents *c)
{
    for (size_t i = 0; i < c->key_count; i++)
        chv_crypto_dh_free(c->crypto, c->keys[i].dh);
    chv_secure_free(c->keys, c->key_room * sizeof *c->keys);
    for (size_t i = 0; i < c->item_count; i++)
        free(c->items[i]);
    free(c->items);
    *c = (struct chv_file_contents){.crypto = c->crypto};
}

/* ---- JSON ---- */

/*
 * jansson holds secrets as text while they go in and out, and frees with free(): it is given one that wipes.  It asks
 * the allocator for the size of the block and takes blocks of malloc() only, so that values made before this call, or
 * by another user of jansson in the process, are freed rightly too.
 */
static void wiping_free(void *ptr)
{
    if (ptr == NULL)
        return;
    chv_wipe(ptr, malloc_usable_size(ptr));
    free(ptr);
}

static void set_alloc_funcs(void)
{
    json_set_alloc_funcs(malloc, wiping_free);
}

void chv_file_json_setup(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, set_alloc_funcs);
}

static int put_bytes(json_t *object, const char *name, const uint8_t *bytes, size_t len)
{
    char text[CHV_BASE64_SIZE(CHV_KEYSTORE_DATA_MAX)];
    chv_base64_encode(bytes, len, text);
    int failed = json_object_set_new(object, name, json_string(text));
    chv_wipe(text, sizeof text);
    return failed;
}

/* The JWK of a key: RFC 7517; oct is RFC 7518, 6.4, EC 6.2, OKP is RFC 8037, 2. */
static json_t *key_to_jwk(const struct chv_file_key *key)
{
    json_t *jwk = json_object();
    int failed = jwk == NULL;
    const char *kty = key->use == CHV_USE_SECRET ? "oct" : key->curve == CHV_CURVE_25519 ? "OKP" : "EC";
    failed |= json_object_set_new(jwk, "kty", json_string(kty));
    failed |= json_object_set_new(jwk, "kid", json_string(key->label));
    if (key->use == CHV_USE_SECRET) {
        failed |= put_bytes(jwk, "k", key->secret, CHV_SECRET_LEN);
    } else {
        bool p256 = key->curve == CHV_CURVE_P256;
        const uint8_t *x = p256 ? key->public_key + 1 : key->public_key; /* behind SEC 1's 0x04 */
        failed |= json_object_set_new(jwk, "crv", json_string(p256 ? "P-256" : "X25519"));
        failed |= put_bytes(jwk, "x", x, 32);
        if (p256)
            failed |= put_bytes(jwk, "y", x + 32, 32);
        failed |= put_bytes(jwk, "d", key->secret, CHV_SECRET_LEN);
        failed |=
            json_object_set_new(jwk, "key_ops", json_pack("[s]", key->use == CHV_USE_RECEIPT ? "sign" : "deriveBits"));
    }
    if (failed) {
        json_decref(jwk);
        return NULL;
    }
    return jwk;
}

static json_t *to_json(const struct chv_file_contents *c)
{
    json_t *root = json_object(), *keys = json_array(), *data = json_object();
    int failed = 0;
    for (size_t i = 0; i < c->key_count; i++)
        failed |= json_array_append_new(keys, key_to_jwk(&c->keys[i]));
    for (size_t i = 0; i < c->item_count; i++)
        failed |= put_bytes(data, c->items[i]->label, c->items[i]->bytes, c->items[i]->len);
    failed |= json_object_set_new(root, "keys", keys);
    failed |= json_object_set_new(root, "data", data);
    if (failed) {
        json_decref(root);
        return NULL;
    }
    return root;
}

enum chv_err chv_file_contents_encode(const struct chv_file_contents *c, uint8_t **plain, size_t *len, size_t *room)
{
    enum chv_err err = CHV_ERR_MEMORY;
    json_t *root = to_json(c);
    size_t n = root == NULL ? 0 : json_dumpb(root, NULL, 0, JSON_COMPACT);
    uint8_t *buf = n == 0 ? NULL : chv_secure_alloc(n);
    if (buf != NULL && json_dumpb(root, (char *)buf, n, JSON_COMPACT) == n) {
        *plain = buf;
        *len = *room = n;
        buf = NULL;
        err = CHV_OK;
    }
    chv_secure_free(buf, n);
    json_decref(root);
    return err;
}

/* A member that is base64url of exactly `len` bytes. */
static bool get_bytes(const json_t *object, const char *name, uint8_t *out, size_t len)
{
    const json_t *value = json_object_get(object, name);
    size_t n = len;
    return json_is_string(value) &&
           chv_base64_decode(json_string_value(value), json_string_length(value), out, &n) == CHV_OK && n == len;
}

static const char *get_text(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text == NULL ? "" : text;
}

/* RFC 7517, 4.3: exactly one operation, fixed when the key was made. */
static bool get_use(const json_t *jwk, enum chv_curve curve, enum chv_key_use *use)
{
    const json_t *ops = json_object_get(jwk, "key_ops");
    const char *op = json_array_size(ops) == 1 ? json_string_value(json_array_get(ops, 0)) : NULL;
    if (op == NULL)
        return false;
    *use = strcmp(op, "sign") == 0 ? CHV_USE_RECEIPT : CHV_USE_IDENTITY;
    return strcmp(op, "deriveBits") == 0 || (*use == CHV_USE_RECEIPT && curve == CHV_CURVE_P256);
}

static enum chv_err add_pair(struct chv_file_contents *c, const json_t *jwk, const char *label, uint8_t *secret)
{
    enum chv_key_use use;
    uint8_t public_key[CHV_DH_PUBLIC_MAX] = {4}; /* SEC 1, 2.3.3: uncompressed */
    bool p256 = strcmp(get_text(jwk, "kty"), "EC") == 0;
    enum chv_curve curve = p256 ? CHV_CURVE_P256 : CHV_CURVE_25519;
    size_t public_len = chv_dh_public_len(curve);
    if (strcmp(get_text(jwk, "crv"), p256 ? "P-256" : "X25519") != 0 || !get_use(jwk, curve, &use) ||
        !get_bytes(jwk, "d", secret, CHV_SECRET_LEN) || !get_bytes(jwk, "x", p256 ? public_key + 1 : public_key, 32) ||
        (p256 && !get_bytes(jwk, "y", public_key + 33, 32)) || json_object_size(jwk) != (p256 ? 7 : 6))
        return CHV_ERR_STORE_FORMAT;
    enum chv_err err = chv_file_add_key(c, label, use, curve, secret);
    if (err != CHV_OK)
        return err;
    const struct chv_file_key *key = chv_file_find_key(c, label);
    return key != NULL && memcmp(key->public_key, public_key, public_len) == 0 ? CHV_OK : CHV_ERR_STORE_FORMAT;
}

/* Strict: a member that is not understood would be lost at the next write. */
static enum chv_err add_jwk(struct chv_file_contents *c, const json_t *jwk)
{
    enum chv_err err = CHV_ERR_STORE_FORMAT;
    uint8_t secret[CHV_SECRET_LEN];
    const char *label = json_string_value(json_object_get(jwk, "kid"));
    const char *kty = get_text(jwk, "kty");
    if (!chv_label_valid(label))
        return err;
    if (strcmp(kty, "oct") == 0) {
        if (json_object_size(jwk) == 3 && get_bytes(jwk, "k", secret, sizeof secret))
            err = chv_file_add_key(c, label, CHV_USE_SECRET, CHV_CURVE_25519, secret);
    } else if (strcmp(kty, "OKP") == 0 || strcmp(kty, "EC") == 0) {
        err = add_pair(c, jwk, label, secret);
    }
    chv_wipe(secret, sizeof secret);
    return err;
}

static enum chv_err add_item(struct chv_file_contents *c, const char *label, const json_t *value)
{
    uint8_t bytes[CHV_KEYSTORE_DATA_MAX];
    size_t len = sizeof bytes;
    if (!chv_label_valid(label) || !json_is_string(value) ||
        chv_base64_decode(json_string_value(value), json_string_length(value), bytes, &len) != CHV_OK)
        return CHV_ERR_STORE_FORMAT;
    return chv_file_put_item(c, label, bytes, len);
}

enum chv_err chv_file_contents_decode(struct chv_file_contents *c, const uint8_t *plain, size_t len, const char *path,
                                      struct chv_why *why)
{
    enum chv_err err = CHV_OK;
    json_t *root = json_loadb((const char *)plain, len, JSON_REJECT_DUPLICATES, NULL);
    json_t *keys = json_object_get(root, "keys"), *data = json_object_get(root, "data"), *value;
    const char *label;
    size_t i;
    if (!json_is_array(keys) || !json_is_object(data) || json_object_size(root) != 2)
        err = CHV_ERR_STORE_FORMAT;
    for (i = 0; err == CHV_OK && i < json_array_size(keys); i++)
        err = add_jwk(c, json_array_get(keys, i));
    if (err == CHV_OK) {
        json_object_foreach(data, label, value)
        {
            err = add_item(c, label, value);
            if (err != CHV_OK)
                break;
        }
    }
    json_decref(root);
    if (err == CHV_OK)
        return CHV_OK;
    chv_file_contents_free(c);
    if (err == CHV_ERR_MEMORY)
        return chv_fail(why, err, "%s: out of memory", path);
    return chv_fail(why, CHV_ERR_STORE_FORMAT,
                    "%s: the passphrase is right, but the contents are not those of a keystore file of version 1",
                    path);
}
