/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The outer JSON of a keystore file: header, nonce, ciphertext, tag, digest (doc/keystore-format.md).
 *
 * Everything here is done before a passphrase is asked for, so that damage is told from a wrong passphrase and no
 * scrypt is spent on a file that cannot open.  The text must be exactly as render() writes it: then every changed byte
 * is noticed, also those that JSON does not care about.
 */
#include <config.h>

#include "keystore/file.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/encode.h"
#include "base/memory.h"

#define FILE_TYPE "chaveiro-keystore"
#define FILE_VERSION 1
#define FILE_ALG "scrypt"
#define FILE_ENC "A256GCM"
#define FILE_CTY "jwk-set+json"

enum { HEADER_MAX = 256, DIGEST_LEN = 32, MEMBERS = 5 };

static const char *const member_names[MEMBERS] = {"protected", "iv", "ciphertext", "tag", "digest"};
enum { PROTECTED, IV, CIPHERTEXT, TAG, DIGEST };

/* The file's text from its five members; *text is freed by the caller. */
static enum chv_err render(const char *const members[MEMBERS], char **text, size_t *len)
{
    int n = asprintf(
        text, "{\n  \"%s\": \"%s\",\n  \"%s\": \"%s\",\n  \"%s\": \"%s\",\n  \"%s\": \"%s\",\n  \"%s\": \"%s\"\n}\n",
        member_names[PROTECTED], members[PROTECTED], member_names[IV], members[IV], member_names[CIPHERTEXT],
        members[CIPHERTEXT], member_names[TAG], members[TAG], member_names[DIGEST], members[DIGEST]);
    if (n < 0)
        return CHV_ERR_MEMORY;
    *len = (size_t)n;
    return CHV_OK;
}

/* The text of the digest member: SHA-256 over protected "." iv "." ciphertext "." tag. */
static enum chv_err digest(const struct chv_crypto *crypto, const char *const members[MEMBERS],
                           char out[CHV_BASE64_SIZE(DIGEST_LEN)])
{
    uint8_t hash[DIGEST_LEN];
    struct chv_part parts[2 * DIGEST - 1];
    for (size_t i = 0; i < DIGEST; i++) {
        if (i > 0)
            parts[2 * i - 1] = (struct chv_part){".", 1};
        parts[2 * i] = (struct chv_part){members[i], strlen(members[i])};
    }
    enum chv_err err = chv_crypto_hash(crypto, CHV_HASH_SHA256, parts, sizeof parts / sizeof parts[0], hash);
    if (err == CHV_OK)
        chv_base64_encode(hash, sizeof hash, out);
    return err;
}

enum chv_err chv_file_cost_check(const struct chv_file_cost *cost, const char *path, struct chv_why *why)
{
    bool power = cost->n != 0 && (cost->n & (cost->n - 1)) == 0;
    if (!power || cost->n < CHV_FILE_N_MIN || cost->n > CHV_FILE_N_MAX)
        return chv_fail(why, CHV_ERR_STORE_COST, "%s: scrypt N=%llu: must be a power of two from 2^14 to 2^20", path,
                        (unsigned long long)cost->n);
    if (cost->r < 1 || cost->r > CHV_FILE_R_MAX || cost->p < 1 || cost->p > CHV_FILE_P_MAX)
        return chv_fail(why, CHV_ERR_STORE_COST, "%s: scrypt r=%llu, p=%llu: r must be 1 to %d, p 1 to %d", path,
                        (unsigned long long)cost->r, (unsigned long long)cost->p, CHV_FILE_R_MAX, CHV_FILE_P_MAX);
    if (128 * cost->n * cost->r > CHV_FILE_SCRYPT_MEMORY_MAX)
        return chv_fail(why, CHV_ERR_STORE_COST,
                        "%s: scrypt N=%llu, r=%llu would take %llu MiB: at most %llu are allowed", path,
                        (unsigned long long)cost->n, (unsigned long long)cost->r,
                        (unsigned long long)((128 * cost->n * cost->r) >> 20),
                        (unsigned long long)(CHV_FILE_SCRYPT_MEMORY_MAX >> 20));
    return CHV_OK;
}

/* ---- reading ---- */

/* Whether the text begins as ours does, white space aside, as far as it goes: decides between "damaged" and "foreign".
 */
static bool begins_like_ours(const char *text, size_t len)
{
    static const char start[] = "{\"protected\"";
    const char *want = start;
    for (size_t i = 0; i < len && *want != '\0'; i++) {
        if (text[i] == *want)
            want++;
        else if (text[i] != ' ' && text[i] != '\n' && text[i] != '\r' && text[i] != '\t')
            return false;
    }
    return want > start;
}

static enum chv_err foreign(const char *path, struct chv_why *why)
{
    return chv_fail(why, CHV_ERR_STORE_FORMAT, "%s: is not a chaveiro keystore file", path);
}

static enum chv_err damaged(const char *path, const char *how, struct chv_why *why)
{
    return chv_fail(why, CHV_ERR_STORE_DAMAGED, "%s: was changed or damaged (%s): restore it from a copy", path, how);
}

static enum chv_err truncated(const char *path, size_t len, struct chv_why *why)
{
    return chv_fail(why, CHV_ERR_STORE_TRUNCATED, "%s: is truncated, it ends after %zu bytes: restore it from a copy",
                    path, len);
}

static enum chv_err not_json(const char *path, const char *text, size_t len, const json_error_t *error,
                             struct chv_why *why)
{
    if (!begins_like_ours(text, len))
        return foreign(path, why);
    /* a changed byte may make it look cut off, but then its end is there */
    bool has_end = len >= 2 && memcmp(text + len - 2, "}\n", 2) == 0;
    if (json_error_code(error) == json_error_premature_end_of_input && !has_end)
        return truncated(path, len, why);
    return damaged(path, "it is no JSON any more", why);
}

/* The decoded header; NULL if it is none. */
static json_t *decode_header(const char *text)
{
    uint8_t bytes[HEADER_MAX];
    size_t len = sizeof bytes;
    if (text == NULL || chv_base64_decode(text, strlen(text), bytes, &len) != CHV_OK)
        return NULL;
    return json_loadb((const char *)bytes, len, JSON_REJECT_DUPLICATES, NULL);
}

static bool text_is(const json_t *object, const char *name, const char *want)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text != NULL && strcmp(text, want) == 0;
}

static uint64_t number_of(const json_t *object, const char *name)
{
    json_int_t n = json_integer_value(json_object_get(object, name));
    return n < 0 ? 0 : (uint64_t)n;
}

static struct chv_file_cost cost_of(const json_t *header)
{
    return (struct chv_file_cost){
        .n = number_of(header, "n"), .r = number_of(header, "r"), .p = number_of(header, "p")};
}

static bool has_cost(const json_t *header)
{
    return json_is_integer(json_object_get(header, "n")) && json_is_integer(json_object_get(header, "r")) &&
           json_is_integer(json_object_get(header, "p"));
}

/*
 * What is wrong with a file whose members are not complete or do not match the digest.  Absurd costs are called by
 * their name all the same: who edited the header by hand should read what is wrong with the number.
 */
static enum chv_err explain_mismatch(const json_t *header, bool complete, const char *path, struct chv_why *why)
{
    if (has_cost(header)) {
        struct chv_file_cost cost = cost_of(header);
        enum chv_err err = chv_file_cost_check(&cost, path, why);
        if (err != CHV_OK)
            return err;
    }
    if (!complete && header == NULL)
        return foreign(path, why);
    return damaged(path, complete ? "the digest does not match" : "its members are not the five of a keystore file",
                   why);
}

static enum chv_err unknown_version(const json_t *header, const char *path, struct chv_why *why)
{
    return chv_fail(why, CHV_ERR_STORE_FORMAT, "%s: is a keystore file of version %lld, this program knows %d", path,
                    (long long)json_integer_value(json_object_get(header, "v")), FILE_VERSION);
}

static bool other_version(const json_t *header)
{
    const json_t *v = json_object_get(header, "v");
    return text_is(header, "typ", FILE_TYPE) && json_is_integer(v) && json_integer_value(v) != FILE_VERSION;
}

/* The header of a file whose digest matches: exactly the nine fields of version 1. */
static enum chv_err read_header(struct chv_file_envelope *env, const json_t *header, const char *path,
                                struct chv_why *why)
{
    size_t salt_len = sizeof env->salt;
    const char *salt = json_string_value(json_object_get(header, "salt"));
    if (!text_is(header, "typ", FILE_TYPE))
        return foreign(path, why);
    if (other_version(header))
        return unknown_version(header, path, why);
    if (!json_is_integer(json_object_get(header, "v")) || !text_is(header, "alg", FILE_ALG) ||
        !text_is(header, "enc", FILE_ENC) || !text_is(header, "cty", FILE_CTY) || !has_cost(header) ||
        json_object_size(header) != 9)
        return chv_fail(why, CHV_ERR_STORE_FORMAT, "%s: its header is not that of a keystore file of version 1", path);
    env->cost = cost_of(header);
    enum chv_err err = chv_file_cost_check(&env->cost, path, why);
    if (err != CHV_OK)
        return err;
    if (salt == NULL || chv_base64_decode(salt, strlen(salt), env->salt, &salt_len) != CHV_OK ||
        salt_len != sizeof env->salt)
        return chv_fail(why, CHV_ERR_STORE_FORMAT, "%s: the salt in its header is not %zu bytes", path,
                        sizeof env->salt);
    return CHV_OK;
}

static enum chv_err read_members(struct chv_file_envelope *env, const char *const members[MEMBERS], const char *path,
                                 struct chv_why *why)
{
    size_t cipher_text = strlen(members[CIPHERTEXT]);
    size_t iv_len = sizeof env->iv, len = cipher_text, tag_len = CHV_AEAD_TAG_LEN;
    env->header = strdup(members[PROTECTED]);
    env->sealed = malloc(cipher_text + CHV_AEAD_TAG_LEN); /* bytes are fewer than their text */
    if (env->header == NULL || env->sealed == NULL)
        return chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", path);
    if (chv_base64_decode(members[IV], strlen(members[IV]), env->iv, &iv_len) != CHV_OK || iv_len != sizeof env->iv ||
        chv_base64_decode(members[CIPHERTEXT], cipher_text, env->sealed, &len) != CHV_OK ||
        chv_base64_decode(members[TAG], strlen(members[TAG]), env->sealed + len, &tag_len) != CHV_OK ||
        tag_len != CHV_AEAD_TAG_LEN)
        return chv_fail(why, CHV_ERR_STORE_FORMAT, "%s: nonce, ciphertext or tag are not those of a keystore file",
                        path);
    env->sealed_len = len + CHV_AEAD_TAG_LEN;
    return CHV_OK;
}

/* The text must be render()'s own. */
static enum chv_err check_text(const char *const members[MEMBERS], const char *path, const char *text, size_t len,
                               struct chv_why *why)
{
    enum chv_err err = CHV_OK;
    char *canonical = NULL;
    size_t canonical_len = 0;
    if (render(members, &canonical, &canonical_len) != CHV_OK)
        return chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", path);
    if (len < canonical_len && memcmp(text, canonical, len) == 0)
        err = truncated(path, len, why);
    else if (len != canonical_len || memcmp(text, canonical, len) != 0)
        err = damaged(path, "white space or the order of its members was changed", why);
    free(canonical);
    return err;
}

static enum chv_err parse_root(struct chv_file_envelope *env, const struct chv_crypto *crypto, const json_t *root,
                               const char *path, const char *text, size_t len, struct chv_why *why)
{
    enum chv_err err = CHV_OK;
    const char *members[MEMBERS];
    char actual[CHV_BASE64_SIZE(DIGEST_LEN)] = "";
    bool complete = json_object_size(root) == MEMBERS;
    for (size_t i = 0; i < MEMBERS; i++) {
        members[i] = json_string_value(json_object_get(root, member_names[i]));
        complete = complete && members[i] != NULL;
    }
    json_t *header = decode_header(members[PROTECTED]);
    if (complete)
        err = digest(crypto, members, actual);
    if (err != CHV_OK) {
        err = chv_fail(why, err, "%s: cannot compute its digest", path);
        goto out;
    }
    if (!complete || strcmp(actual, members[DIGEST]) != 0) {
        /* a later version may have other members, but not a digest that is wrong */
        err = !complete && other_version(header) ? unknown_version(header, path, why)
                                                 : explain_mismatch(header, complete, path, why);
        goto out;
    }
    err = read_header(env, header, path, why);
    if (err == CHV_OK)
        err = check_text(members, path, text, len, why);
    if (err == CHV_OK)
        err = read_members(env, members, path, why);
out:
    json_decref(header);
    return err;
}

enum chv_err chv_file_envelope_parse(struct chv_file_envelope *env, const struct chv_crypto *crypto, const char *path,
                                     const char *text, size_t len, struct chv_why *why)
{
    json_error_t error;
    *env = (struct chv_file_envelope){0};
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
    enum chv_err err =
        root == NULL ? not_json(path, text, len, &error, why) : parse_root(env, crypto, root, path, text, len, why);
    json_decref(root);
    if (err != CHV_OK)
        chv_file_envelope_free(env);
    return err;
}

void chv_file_envelope_free(struct chv_file_envelope *env)
{
    free(env->header);
    free(env->sealed);
    *env = (struct chv_file_envelope){0};
}

/* ---- sealing and opening ---- */

/* scrypt and an AEAD object of its result. */
static enum chv_err make_aead(const struct chv_crypto *crypto, OSSL_LIB_CTX *ossl, const char *passphrase,
                              size_t passphrase_len, const uint8_t salt[CHV_FILE_SALT_LEN],
                              const struct chv_file_cost *cost, struct chv_aead **aead, struct chv_why *why)
{
    uint8_t key[CHV_KEY_LEN];
    enum chv_err err = chv_file_scrypt(ossl, passphrase, passphrase_len, salt, cost, key, why);
    if (err == CHV_OK) {
        err = chv_crypto_aead_new(crypto, CHV_AEAD_AES256GCM, key, aead);
        if (err != CHV_OK)
            err = chv_fail(why, err, "AES-256-GCM cannot be set up");
    }
    chv_wipe(key, sizeof key);
    return err;
}

enum chv_err chv_file_envelope_open(const struct chv_file_envelope *env, const struct chv_crypto *crypto,
                                    OSSL_LIB_CTX *ossl, const char *passphrase, size_t passphrase_len, const char *path,
                                    uint8_t **plain, size_t *plain_len, struct chv_why *why)
{
    struct chv_aead *aead = NULL;
    uint8_t *buf = NULL;
    enum chv_err err = make_aead(crypto, ossl, passphrase, passphrase_len, env->salt, &env->cost, &aead, why);
    if (err != CHV_OK)
        return err;
    buf = chv_secure_alloc(env->sealed_len);
    if (buf == NULL) {
        err = chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", path);
        goto out;
    }
    err = chv_crypto_aead_open(crypto, aead, env->iv, (const uint8_t *)env->header, strlen(env->header), env->sealed,
                               env->sealed_len, buf);
    if (err != CHV_OK) {
        err = err == CHV_ERR_AUTH
                  ? chv_fail(why, CHV_ERR_PASSPHRASE, "%s: wrong passphrase (or a file edited on purpose)", path)
                  : chv_fail(why, err, "%s: cannot decrypt", path);
        goto out;
    }
    *plain = buf;
    *plain_len = env->sealed_len - CHV_AEAD_TAG_LEN;
    buf = NULL;
out:
    chv_secure_free(buf, env->sealed_len);
    chv_crypto_aead_free(crypto, aead);
    return err;
}

static enum chv_err make_header(const struct chv_file_cost *cost, const uint8_t salt[CHV_FILE_SALT_LEN],
                                char out[CHV_BASE64_SIZE(HEADER_MAX)])
{
    char json[HEADER_MAX], salt_text[CHV_BASE64_SIZE(CHV_FILE_SALT_LEN)];
    chv_base64_encode(salt, CHV_FILE_SALT_LEN, salt_text);
    int n = snprintf(
        json, sizeof json,
        "{\"typ\":\"" FILE_TYPE "\",\"v\":%d,\"alg\":\"" FILE_ALG
        "\",\"n\":%llu,\"r\":%llu,\"p\":%llu,\"salt\":\"%s\",\"enc\":\"" FILE_ENC "\",\"cty\":\"" FILE_CTY "\"}",
        FILE_VERSION, (unsigned long long)cost->n, (unsigned long long)cost->r, (unsigned long long)cost->p, salt_text);
    if (n < 0 || (size_t)n >= sizeof json)
        return CHV_ERR_SPACE;
    chv_base64_encode((const uint8_t *)json, (size_t)n, out);
    return CHV_OK;
}

/* Texts of nonce, ciphertext and tag, the digest over them, and the file. */
static enum chv_err finish(const struct chv_crypto *crypto, const char *header, const uint8_t iv[CHV_AEAD_NONCE_LEN],
                           const uint8_t *sealed, size_t plain_len, char **text, size_t *len)
{
    enum chv_err err = CHV_ERR_MEMORY;
    char iv_text[CHV_BASE64_SIZE(CHV_AEAD_NONCE_LEN)], tag_text[CHV_BASE64_SIZE(CHV_AEAD_TAG_LEN)];
    char digest_text[CHV_BASE64_SIZE(DIGEST_LEN)];
    char *cipher_text = malloc(CHV_BASE64_SIZE(plain_len));
    if (cipher_text == NULL)
        return err;
    chv_base64_encode(iv, CHV_AEAD_NONCE_LEN, iv_text);
    chv_base64_encode(sealed, plain_len, cipher_text);
    chv_base64_encode(sealed + plain_len, CHV_AEAD_TAG_LEN, tag_text);
    const char *const members[MEMBERS] = {header, iv_text, cipher_text, tag_text, digest_text};
    err = digest(crypto, members, digest_text);
    if (err == CHV_OK)
        err = render(members, text, len);
    free(cipher_text);
    return err;
}

enum chv_err chv_file_envelope_seal(const struct chv_crypto *crypto, OSSL_LIB_CTX *ossl,
                                    const struct chv_file_cost *cost, const char *passphrase, size_t passphrase_len,
                                    const uint8_t *plain, size_t plain_len, const char *path, char **text, size_t *len,
                                    struct chv_why *why)
{
    struct chv_aead *aead = NULL;
    char header[CHV_BASE64_SIZE(HEADER_MAX)], *file = NULL;
    uint8_t salt[CHV_FILE_SALT_LEN], iv[CHV_AEAD_NONCE_LEN], *sealed = NULL;
    size_t file_len = 0;
    enum chv_err err = chv_crypto_random(crypto, salt, sizeof salt);
    if (err == CHV_OK)
        err = chv_crypto_random(crypto, iv, sizeof iv);
    if (err == CHV_OK)
        err = make_header(cost, salt, header);
    if (err != CHV_OK)
        return chv_fail(why, err, "%s: cannot prepare a new version", path);
    err = make_aead(crypto, ossl, passphrase, passphrase_len, salt, cost, &aead, why);
    if (err != CHV_OK)
        return err;
    sealed = malloc(plain_len + CHV_AEAD_TAG_LEN);
    err = sealed == NULL ? CHV_ERR_MEMORY
                         : chv_crypto_aead_seal(crypto, aead, iv, (const uint8_t *)header, strlen(header), plain,
                                                plain_len, sealed);
    if (err == CHV_OK)
        err = finish(crypto, header, iv, sealed, plain_len, &file, &file_len);
    if (err != CHV_OK) {
        err = chv_fail(why, err, "%s: cannot encrypt", path);
        goto out;
    }
    if (file_len > CHV_FILE_SIZE_MAX) {
        err = chv_fail(why, CHV_ERR_SPACE, "%s: would have %zu bytes, a keystore file has at most %d: remove entries",
                       path, file_len, CHV_FILE_SIZE_MAX);
        goto out;
    }
    *text = file;
    *len = file_len;
    file = NULL;
out:
    free(file);
    free(sealed);
    chv_crypto_aead_free(crypto, aead);
    return err;
}
