/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs Wycheproof's test vectors (C2SP/wycheproof, testvectors_v1) through a backend, or HKDF-SHA256 and HMAC-SHA256
 * through a keystore: the vector's key is imported, derives, and is removed.
 * Usage: wycheproof [--backend SPEC | --keystore URI] FILE...
 * A file keystore is made (in memory: nothing is committed); a token has its PIN in its URI's pin-source.
 * A line per failure and per skip, then the sums.  Exit 1 on a failure, on an unreadable file, and if no test was run.
 */
#include "base/encode.h"
#include "base/memory.h"
#include "core/hkdf.h"

#include <chaveiro/backend.h>
#include <chaveiro/keystore.h>

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/x509.h>

enum outcome {
    SAME,    /* accepted, output as given */
    DIFFERS, /* accepted, another output */
    REFUSED,
    SKIPPED, /* not claimed by the engine or this backend: `why` says what */
    BROKEN   /* wrong in any case: `why` says what */
};

struct bytes {
    uint8_t *ptr;
    size_t len;
};

struct run {
    struct chv_crypto crypto;
    struct chv_keystore *keystore; /* NULL: the backend is tested */
    unsigned long passed;
    unsigned long failed;
    unsigned long skipped;
    const char *why;
    unsigned algorithm; /* an enum chv_hash or chv_aead_alg, as the file's type needs */
    uint8_t *out;       /* scratch of OUT_MAX bytes */
};

enum { OUT_MAX = 70000 };

static bool has(const struct run *r, uint32_t capability)
{
    return (r->crypto.capabilities & capability) != 0;
}

static enum outcome say(struct run *r, enum outcome outcome, const char *why)
{
    r->why = why;
    return outcome;
}

/* The hex member `name`, at least one byte allocated; {NULL, 0} if there is none or it is no hex. */
static struct bytes get(const json_t *test, const char *name)
{
    struct bytes b = {0};
    const char *hex = json_string_value(json_object_get(test, name));
    if (hex == NULL)
        return b;
    b.len = strlen(hex) / 2;
    b.ptr = malloc(b.len + 1);
    if (b.ptr != NULL && chv_hex_decode(hex, strlen(hex), b.ptr, &b.len) != CHV_OK) {
        free(b.ptr);
        b.ptr = NULL;
    }
    return b;
}

static bool same(struct bytes want, const uint8_t *got, size_t len)
{
    return want.len == len && memcmp(want.ptr, got, len) == 0;
}

/* ---- one test of each type ---- */

static enum outcome seal_and_open(struct run *r, struct chv_aead *aead, const struct bytes b[6], bool valid)
{
    const struct bytes *iv = &b[1];
    const struct bytes *aad = &b[2];
    const struct bytes *msg = &b[3];
    const struct bytes *ct = &b[4];
    const struct bytes *tag = &b[5];
    size_t sealed_len = ct->len + tag->len;
    if (sealed_len > OUT_MAX)
        return say(r, BROKEN, "message too long for this program");
    if (valid) {
        if (chv_crypto_aead_seal(&r->crypto, aead, iv->ptr, aad->ptr, aad->len, msg->ptr, msg->len, r->out) != CHV_OK)
            return say(r, BROKEN, "seal failed");
        if (msg->len != ct->len || !same(*ct, r->out, ct->len) || !same(*tag, r->out + ct->len, tag->len))
            return say(r, DIFFERS, "sealed otherwise");
    }
    memcpy(r->out, ct->ptr, ct->len);
    memcpy(r->out + ct->len, tag->ptr, tag->len);
    enum chv_err err = chv_crypto_aead_open(&r->crypto, aead, iv->ptr, aad->ptr, aad->len, r->out, sealed_len, r->out);
    if (err == CHV_OK)
        return same(*msg, r->out, ct->len) ? SAME : say(r, DIFFERS, "opened otherwise");
    if (!chv_is_zero(r->out, ct->len))
        return say(r, BROKEN, "output of a failed open is not zeros");
    return err == CHV_ERR_AUTH ? REFUSED : say(r, BROKEN, chv_err_text(err));
}

static enum outcome run_aead(struct run *r, const json_t *group, const json_t *test)
{
    static const char *const names[] = {"key", "iv", "aad", "msg", "ct", "tag"};
    enum outcome outcome = BROKEN;
    enum chv_aead_alg alg = (enum chv_aead_alg)r->algorithm;
    struct bytes b[6] = {{0}};
    struct chv_aead *aead = NULL;
    const char *result = json_string_value(json_object_get(test, "result"));
    if (!has(r, CHV_CAP_AEAD(alg)))
        return say(r, SKIPPED, "the backend has no such AEAD");
    if (json_integer_value(json_object_get(group, "keySize")) != 256)
        return say(r, SKIPPED, "key size is not 256 bits");
    if (json_integer_value(json_object_get(group, "ivSize")) != 96)
        return say(r, SKIPPED, "nonce size is not 96 bits");
    if (json_integer_value(json_object_get(group, "tagSize")) != 128)
        return say(r, SKIPPED, "tag size is not 128 bits");
    r->why = "unreadable test";
    for (size_t i = 0; i < 6; i++) {
        b[i] = get(test, names[i]);
        if (b[i].ptr == NULL)
            goto out;
    }
    if (b[0].len != CHV_KEY_LEN || b[1].len != CHV_AEAD_NONCE_LEN || b[5].len != CHV_AEAD_TAG_LEN)
        goto out;
    if (chv_crypto_aead_new(&r->crypto, alg, b[0].ptr, &aead) != CHV_OK) {
        r->why = "key refused";
        goto out;
    }
    outcome = seal_and_open(r, aead, b, result != NULL && strcmp(result, "valid") == 0);
out:
    chv_crypto_aead_free(&r->crypto, aead);
    for (size_t i = 0; i < 6; i++)
        free(b[i].ptr);
    return outcome;
}

static enum outcome run_hkdf(struct run *r, const json_t *group, const json_t *test)
{
    (void)group;
    enum outcome outcome = BROKEN;
    enum chv_hash alg = (enum chv_hash)r->algorithm;
    uint8_t prk[CHV_HASH_MAX];
    json_int_t size = json_integer_value(json_object_get(test, "size"));
    if (!has(r, CHV_CAP_HASH(alg)))
        return say(r, SKIPPED, "the backend has no such hash");
    struct bytes ikm = get(test, "ikm");
    struct bytes salt = get(test, "salt");
    struct bytes info = get(test, "info");
    struct bytes okm = get(test, "okm");
    r->why = "unreadable test";
    if (ikm.ptr == NULL || salt.ptr == NULL || info.ptr == NULL || okm.ptr == NULL || size < 0 || size > OUT_MAX)
        goto out;
    if (chv_hkdf_extract(&r->crypto, alg, salt.ptr, salt.len, ikm.ptr, ikm.len, prk) != CHV_OK) {
        r->why = "extract failed";
        goto out;
    }
    outcome = REFUSED;
    if (chv_hkdf_expand(&r->crypto, alg, prk, chv_hash_len(alg), info.ptr, info.len, r->out, (size_t)size) == CHV_OK)
        outcome = same(okm, r->out, (size_t)size) ? SAME : DIFFERS;
out:
    free(ikm.ptr);
    free(salt.ptr);
    free(info.ptr);
    free(okm.ptr);
    return outcome;
}

static enum outcome run_hmac(struct run *r, const json_t *group, const json_t *test)
{
    enum outcome outcome = BROKEN;
    enum chv_hash alg = (enum chv_hash)r->algorithm;
    json_int_t tag_bits = json_integer_value(json_object_get(group, "tagSize"));
    uint8_t mac[CHV_HASH_MAX];
    if (!has(r, CHV_CAP_HASH(alg)))
        return say(r, SKIPPED, "the backend has no such hash");
    struct bytes key = get(test, "key");
    struct bytes msg = get(test, "msg");
    struct bytes tag = get(test, "tag");
    r->why = "unreadable test";
    if (key.ptr == NULL || msg.ptr == NULL || tag.ptr == NULL || tag.len > chv_hash_len(alg) || tag.len == 0 ||
        tag_bits != (json_int_t)tag.len * 8)
        goto out;
    const struct chv_part part = {msg.ptr, msg.len};
    if (chv_crypto_hmac(&r->crypto, alg, key.ptr, key.len, &part, 1, mac) != CHV_OK) {
        r->why = "HMAC failed";
        goto out;
    }
    /* A verifier compares: what differs is refused. */
    outcome = chv_equal(tag.ptr, mac, tag.len) ? SAME : REFUSED;
out:
    free(key.ptr);
    free(msg.ptr);
    free(tag.ptr);
    return outcome;
}

static enum outcome derive(struct run *r, enum chv_curve curve, const uint8_t private_key[CHV_DH_PRIVATE_LEN],
                           const uint8_t *peer, struct bytes shared)
{
    enum outcome outcome = BROKEN;
    uint8_t public_key[CHV_DH_PUBLIC_MAX];
    uint8_t got[CHV_KEY_LEN];
    struct chv_dh *key = NULL;
    if (!has(r, CHV_CAP_CURVE(curve)))
        return say(r, SKIPPED, "the backend has no such curve");
    if (r->crypto.backend->dh_import == NULL)
        return say(r, SKIPPED, "the backend cannot import private keys");
    enum chv_err err = chv_crypto_dh_import(&r->crypto, curve, private_key, &key, public_key);
    if (err == CHV_OK)
        err = chv_crypto_dh_derive(&r->crypto, key, peer, got);
    if (err == CHV_OK)
        outcome = same(shared, got, sizeof got) ? SAME : DIFFERS;
    else if (err == CHV_ERR_MALFORMED || err == CHV_ERR_ARGUMENT)
        outcome = REFUSED;
    else
        r->why = chv_err_text(err);
    chv_crypto_dh_free(&r->crypto, key);
    return outcome;
}

static enum outcome run_xdh(struct run *r, const json_t *group, const json_t *test)
{
    enum outcome outcome = BROKEN;
    const char *curve = json_string_value(json_object_get(group, "curve"));
    if (curve == NULL || strcmp(curve, "curve25519") != 0)
        return say(r, SKIPPED, "the curve is not X25519");
    struct bytes public_key = get(test, "public");
    struct bytes private_key = get(test, "private");
    struct bytes shared = get(test, "shared");
    r->why = "unreadable test";
    if (public_key.ptr != NULL && private_key.ptr != NULL && shared.ptr != NULL && public_key.len == 32 &&
        private_key.len == CHV_DH_PRIVATE_LEN)
        outcome = derive(r, CHV_CURVE_25519, private_key.ptr, public_key.ptr, shared);
    free(public_key.ptr);
    free(private_key.ptr);
    free(shared.ptr);
    return outcome;
}

/*
 * Replaces a SubjectPublicKeyInfo (RFC 5480) by the point in it, unchecked: the backend shall do that.
 * False if it is not an id-ecPublicKey on the named curve P-256.
 */
static bool unwrap_spki(struct bytes *public_key)
{
    bool ok = false;
    const unsigned char *end = public_key->ptr;
    X509_PUBKEY *spki = d2i_X509_PUBKEY(NULL, &end, (long)public_key->len);
    ASN1_OBJECT *type = NULL;
    const unsigned char *point = NULL;
    int point_len = 0;
    X509_ALGOR *algorithm = NULL;
    const void *parameter = NULL;
    int parameter_type = V_ASN1_UNDEF;
    if (spki == NULL || end != public_key->ptr + public_key->len ||
        X509_PUBKEY_get0_param(&type, &point, &point_len, &algorithm, spki) != 1 ||
        OBJ_obj2nid(type) != NID_X9_62_id_ecPublicKey)
        goto out;
    X509_ALGOR_get0(NULL, &parameter_type, &parameter, algorithm);
    if (parameter_type != V_ASN1_OBJECT || OBJ_obj2nid(parameter) != NID_X9_62_prime256v1)
        goto out;
    if (point_len > 0)
        memmove(public_key->ptr, point, (size_t)point_len);
    public_key->len = (size_t)point_len;
    ok = true;
out:
    X509_PUBKEY_free(spki);
    ERR_clear_error();
    return ok;
}

static enum outcome run_ecdh(struct run *r, const json_t *group, const json_t *test)
{
    enum outcome outcome = BROKEN;
    uint8_t scalar[CHV_DH_PRIVATE_LEN] = {0};
    const char *curve = json_string_value(json_object_get(group, "curve"));
    const char *encoding = json_string_value(json_object_get(group, "encoding"));
    const char *result = json_string_value(json_object_get(test, "result"));
    if (curve == NULL || strcmp(curve, "secp256r1") != 0)
        return say(r, SKIPPED, "the curve is not P-256");
    struct bytes public_key = get(test, "public");
    struct bytes private_key = get(test, "private");
    struct bytes shared = get(test, "shared");
    const uint8_t *d = private_key.ptr;
    size_t d_len = private_key.len;
    r->why = "unreadable test";
    if (encoding == NULL || public_key.ptr == NULL || private_key.ptr == NULL || shared.ptr == NULL)
        goto out;
    for (; d_len > 0 && *d == 0; d++)
        d_len--;
    if (d_len > sizeof scalar)
        goto out;
    memcpy(scalar + sizeof scalar - d_len, d, d_len);
    if (strcmp(encoding, "asn") == 0 && !unwrap_spki(&public_key))
        outcome = REFUSED;
    else if (public_key.len == 33 && result != NULL && strcmp(result, "valid") == 0)
        outcome = say(r, SKIPPED, "the point is compressed");
    else if (public_key.len != CHV_DH_PUBLIC_MAX)
        outcome = REFUSED;
    else
        outcome = derive(r, CHV_CURVE_P256, scalar, public_key.ptr, shared);
out:
    free(public_key.ptr);
    free(private_key.ptr);
    free(shared.ptr);
    return outcome;
}

/* ---- the same by a key that a keystore holds ---- */

/* Expand(key, info) of 32 bytes by the keystore. */
static enum outcome keystore_expand(struct run *r, const uint8_t key[CHV_SECRET_LEN], const uint8_t *info, size_t len,
                                    uint8_t out[CHV_SECRET_LEN])
{
    static struct chv_why why;
    enum chv_err err = chv_keystore_import(r->keystore, "wycheproof", key, &why);
    if (err != CHV_OK)
        return say(r, BROKEN, why.text);
    err = chv_keystore_derive(r->keystore, "wycheproof", info, len, out, &why);
    if (err == CHV_OK)
        err = chv_keystore_remove(r->keystore, "wycheproof", &why);
    return err == CHV_OK ? SAME : say(r, BROKEN, why.text);
}

/* Expand's key is Extract's output, which has 32 bytes always; T(1), which is all that derive gives, begins the OKM. */
static enum outcome keystore_hkdf(struct run *r, const json_t *group, const json_t *test)
{
    (void)group;
    enum outcome outcome = BROKEN;
    uint8_t prk[CHV_HASH_MAX];
    uint8_t got[CHV_SECRET_LEN];
    json_int_t size = json_integer_value(json_object_get(test, "size"));
    if (size > 255 * CHV_SECRET_LEN)
        return say(r, SKIPPED, "derive has no length to refuse: it gives 32 bytes");
    struct bytes ikm = get(test, "ikm");
    struct bytes salt = get(test, "salt");
    struct bytes info = get(test, "info");
    struct bytes okm = get(test, "okm");
    r->why = "unreadable test";
    if (ikm.ptr == NULL || salt.ptr == NULL || info.ptr == NULL || okm.ptr == NULL || size < 0 ||
        okm.len != (size_t)size)
        goto out;
    if (info.len > CHV_INFO_MAX) {
        outcome = say(r, SKIPPED, "info is longer than derive takes");
        goto out;
    }
    if (chv_hkdf_extract(&r->crypto, CHV_HASH_SHA256, salt.ptr, salt.len, ikm.ptr, ikm.len, prk) != CHV_OK) {
        r->why = "extract failed";
        goto out;
    }
    outcome = keystore_expand(r, prk, info.ptr, info.len, got);
    if (outcome == SAME && memcmp(got, okm.ptr, okm.len < sizeof got ? okm.len : sizeof got) != 0)
        outcome = DIFFERS;
out:
    free(ikm.ptr);
    free(salt.ptr);
    free(info.ptr);
    free(okm.ptr);
    return outcome;
}

/* derive(info) is the HMAC of info || 0x01: where the message ends so the tag is the vector's, else by software that
 * gives the vector's tag to its message. */
static enum outcome keystore_tag(struct run *r, struct bytes key, struct bytes msg, struct bytes tag)
{
    static const uint8_t counter = 1;
    uint8_t want[CHV_HASH_MAX];
    uint8_t got[CHV_SECRET_LEN];
    const bool ends = msg.len > 0 && msg.ptr[msg.len - 1] == counter;
    const struct chv_part parts[] = {{msg.ptr, msg.len}, {&counter, ends ? 0 : sizeof counter}};
    if (chv_crypto_hmac(&r->crypto, CHV_HASH_SHA256, key.ptr, key.len, parts, 1, want) != CHV_OK ||
        !chv_equal(tag.ptr, want, tag.len))
        return say(r, BROKEN, "the software that stands beside the keystore is wrong");
    if (chv_crypto_hmac(&r->crypto, CHV_HASH_SHA256, key.ptr, key.len, parts, 2, want) != CHV_OK)
        return say(r, BROKEN, "HMAC failed");
    enum outcome outcome = keystore_expand(r, key.ptr, msg.ptr, ends ? msg.len - 1 : msg.len, got);
    return outcome == SAME && !chv_equal(want, got, sizeof got) ? DIFFERS : outcome;
}

static enum outcome keystore_hmac(struct run *r, const json_t *group, const json_t *test)
{
    (void)group;
    const char *result = json_string_value(json_object_get(test, "result"));
    struct bytes key = get(test, "key");
    struct bytes msg = get(test, "msg");
    struct bytes tag = get(test, "tag");
    enum outcome outcome = say(r, BROKEN, "unreadable test");
    if (key.ptr == NULL || msg.ptr == NULL || tag.ptr == NULL || tag.len > CHV_SECRET_LEN || tag.len == 0)
        goto out;
    if (key.len != CHV_SECRET_LEN)
        outcome = say(r, SKIPPED, "a keystore's key has 32 bytes, this one has not");
    else if (result != NULL && strcmp(result, "valid") != 0)
        outcome = say(r, SKIPPED, "a wrong tag: a keystore gives tags, it compares none");
    else if (msg.len > CHV_INFO_MAX)
        outcome = say(r, SKIPPED, "the message is longer than derive takes");
    else
        outcome = keystore_tag(r, key, msg, tag);
out:
    free(key.ptr);
    free(msg.ptr);
    free(tag.ptr);
    return outcome;
}

/* ---- files ---- */

static const struct {
    const char *algorithm; /* the file's */
    enum outcome (*run)(struct run *, const json_t *group, const json_t *test);
    unsigned number;
    enum outcome (*keystore)(struct run *, const json_t *group, const json_t *test); /* NULL: no keystore does it */
} types[] = {
    {"AES-GCM", run_aead, CHV_AEAD_AES256GCM, NULL},
    {"CHACHA20-POLY1305", run_aead, CHV_AEAD_CHACHA20POLY1305, NULL},
    {"HKDF-SHA-256", run_hkdf, CHV_HASH_SHA256, keystore_hkdf},
    {"HKDF-SHA-512", run_hkdf, CHV_HASH_SHA512, NULL},
    {"HMACSHA256", run_hmac, CHV_HASH_SHA256, keystore_hmac},
    {"HMACSHA512", run_hmac, CHV_HASH_SHA512, NULL},
    {"XDH", run_xdh, 0, NULL},
    {"ECDH", run_ecdh, 0, NULL},
};

static void judge(struct run *r, const char *file, const json_t *test, enum outcome outcome)
{
    static const char *const did[] = {"accepted", "another result", "refused", "skipped", "broken"};
    json_int_t id = json_integer_value(json_object_get(test, "tcId"));
    const char *result = json_string_value(json_object_get(test, "result"));
    if (result == NULL)
        result = "(none)";
    if (outcome == SKIPPED) {
        r->skipped++;
        printf("%s: test %lld skipped: %s\n", file, (long long)id, r->why);
        return;
    }
    bool ok = (strcmp(result, "valid") == 0 && outcome == SAME) ||
              (strcmp(result, "invalid") == 0 && outcome == REFUSED) ||
              (strcmp(result, "acceptable") == 0 && (outcome == SAME || outcome == REFUSED));
    if (ok) {
        r->passed++;
        return;
    }
    r->failed++;
    printf("%s: test %lld FAILED: should be %s, was %s%s%s\n", file, (long long)id, result, did[outcome],
           r->why[0] != '\0' ? ": " : "", r->why);
}

static size_t count_tests(const json_t *groups)
{
    size_t n = 0;
    for (size_t g = 0; g < json_array_size(groups); g++)
        n += json_array_size(json_object_get(json_array_get(groups, g), "tests"));
    return n;
}

/* False if the file cannot be read as vectors at all. */
static bool run_file(struct run *r, const char *file)
{
    json_error_t error;
    json_t *top = json_load_file(file, JSON_REJECT_DUPLICATES, &error);
    if (top == NULL) {
        fprintf(stderr, "wycheproof: %s: line %d: %s\n", file, error.line, error.text);
        return false;
    }
    const char *algorithm = json_string_value(json_object_get(top, "algorithm"));
    const json_t *groups = json_object_get(top, "testGroups");
    size_t type = 0;
    if (algorithm == NULL || !json_is_array(groups)) {
        fprintf(stderr, "wycheproof: %s: no \"algorithm\" or no \"testGroups\": not a Wycheproof file\n", file);
        json_decref(top);
        return false;
    }
    while (type < sizeof types / sizeof types[0] && strcmp(types[type].algorithm, algorithm) != 0)
        type++;
    if (type == sizeof types / sizeof types[0] || (r->keystore != NULL && types[type].keystore == NULL)) {
        size_t n = count_tests(groups);
        printf("%s: %zu tests skipped: %s is no algorithm of %s\n", file, n, algorithm,
               r->keystore != NULL ? "a keystore" : "the engine");
        r->skipped += n;
        json_decref(top);
        return true;
    }
    r->algorithm = types[type].number;
    for (size_t g = 0; g < json_array_size(groups); g++) {
        const json_t *group = json_array_get(groups, g);
        const json_t *tests = json_object_get(group, "tests");
        for (size_t t = 0; t < json_array_size(tests); t++) {
            const json_t *test = json_array_get(tests, t);
            r->why = "";
            judge(r, file, test, (r->keystore != NULL ? types[type].keystore : types[type].run)(r, group, test));
        }
    }
    json_decref(top);
    return true;
}

/* ---- program ---- */

static enum chv_err give_passphrase(void *arg, const char *prompt, int confirm, char *out, size_t cap, size_t *len,
                                    struct chv_why *why)
{
    static const char text[] = "correct horse";
    (void)arg;
    (void)prompt;
    (void)confirm;
    if (cap < sizeof text)
        return chv_fail(why, CHV_ERR_SPACE, "no room");
    memcpy(out, text, sizeof text);
    *len = sizeof text - 1;
    return CHV_OK;
}

static enum chv_err open_keystore(const char *uri, struct chv_keystore **ks, struct chv_why *why)
{
    const struct chv_keystore_options options = {.mode = CHV_KEYSTORE_CREATE, .scrypt_n = UINT64_C(1) << 14};
    enum chv_err err = chv_keystore_open(uri, &options, ks, why);
    return err == CHV_OK ? chv_keystore_unlock(*ks, give_passphrase, NULL, why) : err;
}

int main(int argc, char **argv)
{
    const char *spec = "openssl", *keystore = NULL;
    struct chv_why why = {{0}};
    struct run r = {.why = ""};
    bool readable = true;
    int first = 1;
    if (argc >= 3 && strcmp(argv[1], "--backend") == 0) {
        spec = argv[2];
        first = 3;
    } else if (argc >= 3 && strcmp(argv[1], "--keystore") == 0) {
        keystore = argv[2];
        first = 3;
    }
    if (first >= argc || argv[first][0] == '-') {
        fprintf(stderr, "Usage: wycheproof [--backend SPEC | --keystore URI] FILE...\n");
        return EXIT_FAILURE;
    }
    if (chv_backend_open(spec, &r.crypto, &why) != CHV_OK ||
        (keystore != NULL && open_keystore(keystore, &r.keystore, &why) != CHV_OK)) {
        fprintf(stderr, "wycheproof: %s\n", why.text);
        chv_keystore_close(r.keystore);
        chv_backend_close(&r.crypto);
        return EXIT_FAILURE;
    }
    r.out = malloc(OUT_MAX);
    for (int i = first; r.out != NULL && i < argc; i++)
        if (!run_file(&r, argv[i]))
            readable = false;
    free(r.out);
    chv_keystore_close(r.keystore);
    chv_backend_close(&r.crypto);
    printf("%lu passed, %lu failed, %lu skipped\n", r.passed, r.failed, r.skipped);
    return readable && r.failed == 0 && r.passed > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
