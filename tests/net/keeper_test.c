/* SPDX-License-Identifier: Apache-2.0 */
/* What the keeper answers: called directly, with a keystore file and with one that fails. */
#include "config.h"

#include "base/encode.h"
#include "base/memory.h"
#include "core/hkdf.h"
#include "net/keeper_update.h"
#include "tests/net/keeper_support.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct chv_server_config config;
static struct chv_server_identity identity;
static struct chv_keeper keeper;
static struct chv_why why;
static struct chv_keeper_answer answers[CHV_KEEPER_BATCH];
static struct chv_keeper_request requests[CHV_KEEPER_BATCH + 1];

static enum chv_err open_keeper(void)
{
    struct test_secret secret = {.text = TEST_PASSPHRASE};
    why.text[0] = '\0';
    return chv_keeper_open(&keeper, &config, test_secret, &secret, &identity, &why);
}

static void start(void)
{
    keeper_config(&config);
    CU_ASSERT_EQUAL_FATAL(open_keeper(), CHV_OK);
}

static const struct chv_keeper_answer *ask(uint32_t epoch, uint64_t not_after)
{
    size_t count = 0;
    keeper_request(&requests[0], 42, epoch, not_after);
    CU_ASSERT_EQUAL_FATAL(chv_keeper_answer(&keeper, NOW, requests, sizeof requests[0], answers, &count), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(count, 1);
    CU_ASSERT_EQUAL(answers[0].tag, 42);
    return &answers[0];
}

static void check_true_psk(const struct chv_keeper_answer *answer, enum chv_keeper_verdict verdict)
{
    uint8_t wanted[CHV_KEY_LEN];
    keeper_psk(&requests[0], "s1", 1, wanted);
    CU_ASSERT_EQUAL(answer->status, CHV_KEEPER_OK);
    CU_ASSERT_EQUAL(answer->verdict, verdict);
    CU_ASSERT_EQUAL(memcmp(answer->psk, wanted, sizeof wanted), 0);
}

static void test_good(void)
{
    start();
    check_true_psk(ask(1, NOW + 1), CHV_KEEPER_ACCEPTED);
    chv_keeper_close(&keeper);
}

static void test_expired_gets_its_psk(void)
{
    start();
    check_true_psk(ask(1, NOW), CHV_KEEPER_EXPIRED);
    check_true_psk(ask(1, 1), CHV_KEEPER_EXPIRED);
    chv_keeper_close(&keeper);
}

static void test_lifetime(void)
{
    start();
    check_true_psk(ask(1, 0), CHV_KEEPER_LIFETIME);
    check_true_psk(ask(1, NOW + 91 * DAY), CHV_KEEPER_ACCEPTED); /* rounded up to a day when it was made */
    check_true_psk(ask(1, NOW + 91 * DAY + 1), CHV_KEEPER_LIFETIME);
    keeper.max_lifetime = 0;
    check_true_psk(ask(1, 0), CHV_KEEPER_ACCEPTED);
    chv_keeper_close(&keeper);
}

/* Epoch 2 has a master but is not served, 9 has none: both get random bytes, other ones each time. */
static void test_unknown_epoch(void)
{
    static const uint32_t epochs[] = {2, 9, 2, 9};
    uint8_t seen[4][CHV_KEY_LEN], truth[CHV_KEY_LEN];
    start();
    for (size_t i = 0; i < 4; i++) {
        const struct chv_keeper_answer *answer = ask(epochs[i], NOW + 1);
        CU_ASSERT_EQUAL(answer->status, CHV_KEEPER_OK);
        CU_ASSERT_EQUAL(answer->verdict, CHV_KEEPER_EPOCH);
        memcpy(seen[i], answer->psk, CHV_KEY_LEN);
        keeper_psk(&requests[0], "s1", 2, truth);
        CU_ASSERT_NOT_EQUAL(memcmp(seen[i], truth, CHV_KEY_LEN), 0);
        CU_ASSERT_FALSE(chv_is_zero(seen[i], CHV_KEY_LEN));
        for (size_t j = 0; j < i; j++)
            CU_ASSERT_NOT_EQUAL(memcmp(seen[i], seen[j], CHV_KEY_LEN), 0);
    }
    chv_keeper_close(&keeper);
}

static void check_malformed(const struct chv_keeper_request *request)
{
    size_t count = 0;
    CU_ASSERT_EQUAL_FATAL(chv_keeper_answer(&keeper, NOW, request, sizeof *request, answers, &count), CHV_OK);
    CU_ASSERT_EQUAL(answers[0].tag, request->tag);
    CU_ASSERT_EQUAL(answers[0].status, CHV_KEEPER_MALFORMED);
    CU_ASSERT_TRUE(chv_is_zero(answers[0].psk, CHV_KEY_LEN));
}

static void test_malformed_requests(void)
{
    struct chv_keeper_request *r = &requests[0];
    start();
#define BROKEN(change)                                                                                                 \
    keeper_request(r, 7, 1, NOW + 1);                                                                                  \
    change;                                                                                                            \
    check_malformed(r)
    BROKEN(r->kind = 0);
    BROKEN(r->kind = 2);
    BROKEN(r->profile = CHV_PROFILE_KEY);
    BROKEN(r->profile = CHV_PROFILE_KEY_PSK);
    BROKEN(r->profile = 9);
    BROKEN(r->curve = 1);
    BROKEN(r->zero2 = 1);
    BROKEN(r->h_psk_len = 31);
    BROKEN(r->h_psk_len = 65);
    BROKEN(r->h_psk_len = 255);
    BROKEN(r->credential_len = 0);
    BROKEN(r->credential_len--);
    BROKEN(r->credential_len++);
    BROKEN(r->credential_len = 513);
    BROKEN(r->credential_len = UINT16_MAX);
    BROKEN(r->credential[0] = 2); /* version */
    /* A key+psk client's access key is worth nothing in profile psk. */
    BROKEN(r->credential_len = (uint16_t)keeper_credential(CHV_PROFILE_KEY_PSK, 1, NOW + 1, r->credential));
#undef BROKEN
    memset(r, 0xff, sizeof *r);
    check_malformed(r);
    chv_keeper_close(&keeper);
}

static void dh_request(struct chv_keeper_request *r, const uint8_t *point)
{
    memset(r, 0, sizeof *r);
    r->tag = 9;
    r->kind = CHV_KEEPER_DH;
    r->profile = CHV_PROFILE_KEY;
    r->curve = CHV_CURVE_25519;
    r->point_len = 32;
    memcpy(r->point, point, 32);
}

/* The server's identity key with a point: for profiles that use it, on its curve, and nothing comes of a bad point. */
static void test_dh(void)
{
    struct chv_keeper_request *r = &requests[0];
    struct chv_crypto crypto;
    struct chv_dh *peer = NULL;
    uint8_t point[CHV_DH_PUBLIC_MAX] = {0}, shared[CHV_KEY_LEN];
    const uint8_t zero[32] = {0};
    size_t count = 0;
    CU_ASSERT_EQUAL_FATAL(chv_backend_open("openssl", &crypto, &why), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_crypto_dh_generate(&crypto, CHV_CURVE_25519, &peer, point), CHV_OK);
    keeper_config(&config);
    CU_ASSERT_EQUAL_FATAL(open_keeper(), CHV_OK);
    CU_ASSERT_FALSE(identity.there);
    dh_request(r, point);
    check_malformed(r); /* profile psk alone does not use it */
    chv_keeper_close(&keeper);

    config.profiles = CHV_PROFILE_BIT(CHV_PROFILE_KEY) | CHV_PROFILE_BIT(CHV_PROFILE_KEY_PSK);
    CU_ASSERT_EQUAL_FATAL(open_keeper(), CHV_OK);
    CU_ASSERT_TRUE(identity.there);
    CU_ASSERT_EQUAL(identity.curve, CHV_CURVE_25519);
    CU_ASSERT_EQUAL(chv_crypto_dh_derive(&crypto, peer, identity.public_key, shared), CHV_OK);
    for (unsigned profile = CHV_PROFILE_KEY; profile <= CHV_PROFILE_KEY_PSK; profile++) {
        dh_request(r, point);
        r->profile = (uint8_t)profile;
        CU_ASSERT_EQUAL(chv_keeper_answer(&keeper, NOW, r, sizeof *r, answers, &count), CHV_OK);
        CU_ASSERT_EQUAL(answers[0].status, CHV_KEEPER_OK);
        CU_ASSERT_EQUAL(answers[0].tag, 9);
        CU_ASSERT_EQUAL(answers[0].verdict, CHV_KEEPER_ACCEPTED);
        CU_ASSERT_EQUAL(memcmp(answers[0].psk, shared, sizeof shared), 0);
    }
#define BROKEN(change)                                                                                                 \
    dh_request(r, point);                                                                                              \
    change;                                                                                                            \
    check_malformed(r)
    BROKEN(r->profile = CHV_PROFILE_PSK);
    BROKEN(r->profile = 0);
    BROKEN(r->curve = CHV_CURVE_P256);
    BROKEN(r->curve = 9);
    BROKEN(r->point_len = 31);
    BROKEN(r->point_len = 65);
    BROKEN(r->point_len = UINT16_MAX);
    BROKEN(r->h_psk_len = 32);
    BROKEN(r->zero2 = 1);
    BROKEN(r->kind = 3);
    BROKEN(memcpy(r->point, zero, sizeof zero)); /* a result of zeros */
#undef BROKEN
    /* a batch of both kinds; key+psk's own credential */
    dh_request(&requests[0], point);
    keeper_request(&requests[1], 7, 1, NOW + 1);
    requests[1].profile = CHV_PROFILE_KEY_PSK;
    requests[1].credential_len = (uint16_t)keeper_credential(CHV_PROFILE_KEY_PSK, 1, NOW + 1, requests[1].credential);
    CU_ASSERT_EQUAL(chv_keeper_answer(&keeper, NOW, requests, 2 * sizeof requests[0], answers, &count), CHV_OK);
    CU_ASSERT_EQUAL(count, 2);
    CU_ASSERT_EQUAL(answers[0].status, CHV_KEEPER_OK);
    CU_ASSERT_EQUAL(answers[1].status, CHV_KEEPER_OK);
    uint8_t psk[CHV_KEY_LEN];
    keeper_psk(&requests[1], "s1", 1, psk);
    CU_ASSERT_EQUAL(memcmp(answers[1].psk, psk, sizeof psk), 0);
    /* a credential of profile psk is none of key+psk */
    keeper_request(&requests[0], 7, 1, NOW + 1);
    requests[0].profile = CHV_PROFILE_KEY_PSK;
    check_malformed(&requests[0]);
    chv_keeper_close(&keeper);
    chv_crypto_dh_free(&crypto, peer);
    chv_backend_close(&crypto);
}

static void test_packets(void)
{
    size_t count = 99;
    start();
    for (size_t i = 0; i <= CHV_KEEPER_BATCH; i++)
        keeper_request(&requests[i], 100 + i, 1, NOW + 1);
    requests[3].kind = 77;
    CU_ASSERT_EQUAL(chv_keeper_answer(&keeper, NOW, requests, 0, answers, &count), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(chv_keeper_answer(&keeper, NOW, requests, 1, answers, &count), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(chv_keeper_answer(&keeper, NOW, requests, sizeof requests[0] - 1, answers, &count),
                    CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(chv_keeper_answer(&keeper, NOW, requests, sizeof requests[0] + 1, answers, &count),
                    CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(chv_keeper_answer(&keeper, NOW, requests, sizeof requests, answers, &count), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(count, 99);
    CU_ASSERT_EQUAL(chv_keeper_answer(&keeper, NOW, requests, CHV_KEEPER_BATCH * sizeof requests[0], answers, &count),
                    CHV_OK);
    CU_ASSERT_EQUAL(count, CHV_KEEPER_BATCH);
    for (size_t i = 0; i < CHV_KEEPER_BATCH; i++) {
        CU_ASSERT_EQUAL(answers[i].tag, 100 + i);
        CU_ASSERT_EQUAL(answers[i].status, i == 3 ? CHV_KEEPER_MALFORMED : CHV_KEEPER_OK);
    }
    chv_keeper_close(&keeper);
}

static void test_own_server_name(void)
{
    uint8_t wanted[CHV_KEY_LEN];
    start();
    const struct chv_keeper_answer *answer = ask(1, NOW + 1);
    keeper_psk(&requests[0], "s2", 1, wanted);
    CU_ASSERT_NOT_EQUAL(memcmp(answer->psk, wanted, sizeof wanted), 0);
    chv_keeper_close(&keeper);
    snprintf(config.name, sizeof config.name, "s2");
    CU_ASSERT_EQUAL(open_keeper(), CHV_ERR_CONFIG);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "'s1'"));
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "s2"));
}

static void test_open_failures(void)
{
    struct test_secret wrong = {.text = "wrong"};
    keeper_config(&config);
    CU_ASSERT_EQUAL(chv_keeper_open(&keeper, &config, test_secret, &wrong, &identity, &why), CHV_ERR_PASSPHRASE);
    config.epochs[config.epoch_count++] = 7;
    CU_ASSERT_EQUAL(open_keeper(), CHV_ERR_CONFIG);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "epoch 7"));
    keeper_config(&config);
    snprintf(config.keystore, sizeof config.keystore, "file:/nonexistent/keys");
    CU_ASSERT_EQUAL(open_keeper(), CHV_ERR_NOT_FOUND);
}

static void test_configure(void)
{
    start();
    config.epochs[config.epoch_count++] = 7;
    CU_ASSERT_EQUAL(chv_keeper_configure(&keeper, &config, &why), CHV_ERR_CONFIG);
    CU_ASSERT_EQUAL(keeper.epoch_count, 1);
    config.epochs[1] = 2;
    config.max_lifetime = 0;
    CU_ASSERT_EQUAL(chv_keeper_configure(&keeper, &config, &why), CHV_OK);
    CU_ASSERT_EQUAL(ask(2, 0)->verdict, CHV_KEEPER_ACCEPTED);
    snprintf(config.name, sizeof config.name, "other");
    CU_ASSERT_EQUAL(chv_keeper_configure(&keeper, &config, &why), CHV_ERR_CONFIG);
    CU_ASSERT_STRING_EQUAL(keeper.server, "s1");
    chv_keeper_close(&keeper);
}

/* A keystore with another master than the configuration knows is refused, at the start and when loaded again. */
static void test_key_check(void)
{
    keeper_config(&config);
    config.check_count = 1;
    config.checks[0] = (struct chv_key_check){.epoch = config.epochs[0], .value = {0xab}};
    CU_ASSERT_EQUAL(open_keeper(), CHV_ERR_KEY);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "ab000000000000000000000000000000"));
    char *value = strstr(why.text, "key check value ");
    CU_ASSERT_PTR_NOT_NULL_FATAL(value);
    size_t len = CHV_KEY_CHECK_LEN;
    CU_ASSERT_EQUAL(chv_hex_decode(value + strlen("key check value "), 32, config.checks[0].value, &len), CHV_OK);
    CU_ASSERT_EQUAL(open_keeper(), CHV_OK); /* the value that was named is the right one */
    config.checks[0].value[15] ^= 1;
    CU_ASSERT_EQUAL(chv_keeper_configure(&keeper, &config, &why), CHV_ERR_KEY);
    CU_ASSERT_NOT_EQUAL(keeper.checks[0].value[15], config.checks[0].value[15]);
    config.checks[0].epoch = 9; /* another epoch's */
    CU_ASSERT_EQUAL(chv_keeper_configure(&keeper, &config, &why), CHV_OK);
    chv_keeper_close(&keeper);
}

/* --- a keystore that fails --------------------------------------------------------------------------------------- */

struct chv_keystore {
    const struct chv_keystore_ops *ops;
};

static enum chv_err failing_derive2(struct chv_keystore *ks, const char *label, const uint8_t *info1, size_t info1_len,
                                    const uint8_t *info2, size_t info2_len, uint8_t out[CHV_SECRET_LEN],
                                    struct chv_why *w)
{
    (void)ks, (void)label, (void)info1, (void)info1_len, (void)info2, (void)info2_len;
    memset(out, 0x77, CHV_SECRET_LEN);
    return chv_fail(w, CHV_ERR_CRYPTO, "the token was pulled");
}

static void test_keystore_fault(void)
{
    static const struct chv_keystore_ops ops = {.abi = CHV_KEYSTORE_ABI, .scheme = "bad", .derive2 = failing_derive2};
    struct chv_keystore bad = {.ops = &ops};
    start();
    struct chv_keystore *good = keeper.keystore;
    keeper.keystore = &bad;
    const struct chv_keeper_answer *answer = ask(1, NOW + 1);
    CU_ASSERT_EQUAL(answer->status, CHV_KEEPER_UNAVAILABLE);
    CU_ASSERT_TRUE(chv_is_zero(answer->psk, CHV_KEY_LEN));
    keeper.keystore = good;
    check_true_psk(ask(1, NOW + 1), CHV_KEEPER_ACCEPTED);
    chv_keeper_close(&keeper);
}

/* --- the clock ---------------------------------------------------------------------------------------------------- */

static uint16_t status_at(uint64_t now)
{
    size_t count;
    keeper_request(&requests[0], 1, 1, now + 1);
    CU_ASSERT_EQUAL_FATAL(chv_keeper_answer(&keeper, now, requests, sizeof requests[0], answers, &count), CHV_OK);
    if (answers[0].status != CHV_KEEPER_OK)
        CU_ASSERT_TRUE(chv_is_zero(answers[0].psk, CHV_KEY_LEN));
    return answers[0].status;
}

static void test_clock(void)
{
    start();
    CU_ASSERT_EQUAL(status_at(0), CHV_KEEPER_UNAVAILABLE);
    CU_ASSERT_EQUAL(status_at(CHV_TIME_FLOOR - 1), CHV_KEEPER_UNAVAILABLE);
    CU_ASSERT_EQUAL(status_at(CHV_TIME_FLOOR), CHV_KEEPER_OK);
    CU_ASSERT_EQUAL(status_at(NOW), CHV_KEEPER_OK);
    CU_ASSERT_EQUAL(status_at(NOW - CHV_CLOCKMARK_TOLERANCE), CHV_KEEPER_OK);
    CU_ASSERT_EQUAL(status_at(NOW - CHV_CLOCKMARK_TOLERANCE - 1), CHV_KEEPER_UNAVAILABLE);
    CU_ASSERT_EQUAL(status_at(NOW + 5), CHV_KEEPER_OK);
    chv_keeper_close(&keeper);
}

/* A quiet night is not forgotten: what expired in it stays expired. */
static void test_clock_while_nobody_asks(void)
{
    start();
    CU_ASSERT_EQUAL(status_at(NOW), CHV_KEEPER_OK);
    chv_keeper_watch_clock(&keeper, NOW + DAY);
    CU_ASSERT_EQUAL(status_at(NOW + DAY - CHV_CLOCKMARK_TOLERANCE - 1), CHV_KEEPER_UNAVAILABLE);
    chv_keeper_watch_clock(&keeper, NOW); /* what it shows now does not make it forget */
    CU_ASSERT_EQUAL(status_at(NOW), CHV_KEEPER_UNAVAILABLE);
    CU_ASSERT_EQUAL(status_at(NOW + DAY), CHV_KEEPER_OK);
    chv_keeper_close(&keeper);
}

static void write_file(const char *folder, const char *text)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, CHV_CLOCKMARK_FILE);
    FILE *f = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    fputs(text, f);
    fclose(f);
}

static uint64_t read_mark(const char *folder)
{
    char path[PATH_MAX], text[32] = "", *end = text;
    snprintf(path, sizeof path, "%s/%s", folder, CHV_CLOCKMARK_FILE);
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return 0;
    CU_ASSERT_PTR_NOT_NULL(fgets(text, sizeof text, f));
    fclose(f);
    uint64_t v = strtoull(text, &end, 10);
    CU_ASSERT_STRING_EQUAL(end, "\n");
    return v;
}

static const struct chv_keeper_update_answer *ask_update(void (*change)(struct chv_keeper_request *r), uint32_t epoch)
{
    static struct chv_keeper_update_answer answer;
    keeper_request(&requests[0], 43, epoch, NOW + 1);
    requests[0].kind = CHV_KEEPER_UPDATE;
    if (change != NULL)
        change(&requests[0]);
    CU_ASSERT_TRUE_FATAL(chv_keeper_is_update(&requests[0], sizeof requests[0]));
    memset(&answer, 0xee, sizeof answer);
    chv_keeper_update(&keeper, NOW, &requests[0], &answer);
    CU_ASSERT_EQUAL(answer.tag, 43);
    CU_ASSERT_TRUE(chv_is_zero(answer.body + answer.body_len, sizeof answer.body - answer.body_len));
    return &answer;
}

static void start_with(size_t count, bool update, unsigned update_to)
{
    keeper_config(&config);
    config.epoch_count = count;
    config.epochs[1] = 2;
    config.update = update;
    config.update_to = update_to;
    CU_ASSERT_EQUAL_FATAL(open_keeper(), CHV_OK);
}

/* What the client of epoch 1 makes of it, by HKDF alone. */
static void test_update(void)
{
    struct chv_crypto crypto;
    struct chv_credential old;
    struct chv_update update;
    uint8_t info[CHV_INFO_MAX], key[CHV_KEY_LEN], access[CHV_KEY_LEN], wanted[CHV_KEY_LEN];
    size_t len;
    start_with(2, true, 0);
    const struct chv_keeper_update_answer *answer = ask_update(NULL, 1);
    CU_ASSERT_EQUAL_FATAL(answer->status, CHV_KEEPER_OK);
    const struct chv_keeper_request *r = &requests[0];
    CU_ASSERT_EQUAL(chv_credential_parse(r->credential, r->credential_len, &old, NULL), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_update_accept(&old, answer->body, answer->body_len, &update, &why), CHV_OK);
    CU_ASSERT_EQUAL(update.parsed.epoch, 2);
    CU_ASSERT_EQUAL(update.parsed.serial, old.serial);

    CU_ASSERT_EQUAL_FATAL(chv_backend_open("openssl", &crypto, &why), CHV_OK);
    memset(key, 0x11, sizeof key);
    CU_ASSERT_EQUAL(chv_info_access(r->credential, r->credential_len, info, &len), CHV_OK);
    CU_ASSERT_EQUAL(chv_hkdf_expand(&crypto, CHV_HASH_SHA256, key, 32, info, len, key, 32), CHV_OK);
    CU_ASSERT_EQUAL(chv_info_update("s1", r->h_psk, 32, r->credential, r->credential_len, update.credential,
                                    update.credential_len, info, &len),
                    CHV_OK);
    CU_ASSERT_EQUAL(chv_hkdf_expand(&crypto, CHV_HASH_SHA256, key, 32, info, len, key, 32), CHV_OK);
    CU_ASSERT_EQUAL(chv_update_open(&crypto, key, &update, access), CHV_OK);
    memset(key, 0x22, sizeof key);
    CU_ASSERT_EQUAL(chv_info_access(update.credential, update.credential_len, info, &len), CHV_OK);
    CU_ASSERT_EQUAL(chv_hkdf_expand(&crypto, CHV_HASH_SHA256, key, 32, info, len, wanted, 32), CHV_OK);
    CU_ASSERT_EQUAL(memcmp(access, wanted, sizeof access), 0);
    chv_backend_close(&crypto);
    chv_keeper_close(&keeper);
}

static void expired(struct chv_keeper_request *r)
{
    r->credential_len = (uint16_t)keeper_credential(CHV_PROFILE_PSK, 1, NOW, r->credential);
}
static void for_ever(struct chv_keeper_request *r)
{
    r->credential_len = (uint16_t)keeper_credential(CHV_PROFILE_PSK, 1, 0, r->credential);
}
static void other_profile(struct chv_keeper_request *r)
{
    r->profile = CHV_PROFILE_KEY_PSK;
}
static void cut(struct chv_keeper_request *r)
{
    r->credential_len--;
}
static void short_hash(struct chv_keeper_request *r)
{
    r->h_psk_len = 31;
}

static void no_update(void (*change)(struct chv_keeper_request *r), uint32_t epoch)
{
    const struct chv_keeper_update_answer *answer = ask_update(change, epoch);
    CU_ASSERT_EQUAL(answer->status, CHV_KEEPER_MALFORMED);
    CU_ASSERT_EQUAL(answer->body_len, 0);
}

/* Whose OPEN would be refused gets no key; nor does anybody a key of another epoch than the successor. */
static void test_no_update(void)
{
    start_with(2, true, 0);
    no_update(expired, 1);
    no_update(for_ever, 1);
    no_update(other_profile, 1);
    no_update(cut, 1);
    no_update(short_hash, 1);
    no_update(NULL, 2); /* the newest already */
    no_update(NULL, 9); /* not served */
    keeper_request(&requests[0], 1, 1, NOW + 1);
    keeper_request(&requests[1], 2, 1, NOW + 1);
    requests[1].kind = CHV_KEEPER_UPDATE; /* not among others */
    size_t count = 0;
    CU_ASSERT_FALSE(chv_keeper_is_update(requests, 2 * sizeof requests[0]));
    CU_ASSERT_EQUAL(chv_keeper_answer(&keeper, NOW, requests, 2 * sizeof requests[0], answers, &count), CHV_OK);
    CU_ASSERT_EQUAL(answers[0].status, CHV_KEEPER_OK);
    CU_ASSERT_EQUAL(answers[1].status, CHV_KEEPER_MALFORMED);
    chv_keeper_close(&keeper);

    start_with(2, false, 2);
    no_update(NULL, 1);
    chv_keeper_close(&keeper);
    start_with(2, true, 1);
    no_update(NULL, 1);
    chv_keeper_close(&keeper);
    start_with(1, true, 0);
    no_update(NULL, 1);
    chv_keeper_close(&keeper);

    start_with(2, true, 0);
    struct chv_keeper_update_answer answer;
    chv_keeper_update(&keeper, NOW, &requests[1], &answer);
    CU_ASSERT_EQUAL(answer.status, CHV_KEEPER_OK);
    chv_keeper_update(&keeper, 1000, &requests[1], &answer); /* a clock that is wrong */
    CU_ASSERT_EQUAL(answer.status, CHV_KEEPER_UNAVAILABLE);
    CU_ASSERT_EQUAL(answer.body_len, 0);
    chv_keeper_close(&keeper);
}

static void test_clock_mark_file(void)
{
    struct chv_clockmark mark;
    char *folder = test_fresh_path();
    CU_ASSERT_EQUAL_FATAL(mkdir(folder, 0700), 0);
    CU_ASSERT_EQUAL(chv_clockmark_open(&mark, folder, &why), CHV_OK);
    CU_ASSERT_EQUAL(chv_clockmark_check(&mark, NOW, &why), CHV_OK);
    CU_ASSERT_EQUAL(read_mark(folder), NOW);
    CU_ASSERT_EQUAL(chv_clockmark_check(&mark, NOW + CHV_CLOCKMARK_INTERVAL - 1, &why), CHV_OK);
    CU_ASSERT_EQUAL(read_mark(folder), NOW); /* at most once a minute */
    CU_ASSERT_EQUAL(chv_clockmark_check(&mark, NOW + CHV_CLOCKMARK_INTERVAL, &why), CHV_OK);
    CU_ASSERT_EQUAL(read_mark(folder), NOW + CHV_CLOCKMARK_INTERVAL);
    chv_clockmark_close(&mark);

    CU_ASSERT_EQUAL(chv_clockmark_open(&mark, folder, &why), CHV_OK); /* a restart does not forget */
    CU_ASSERT_EQUAL(chv_clockmark_check(&mark, NOW - DAY, &why), CHV_ERR_UNAVAILABLE);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "set it right"));
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, CHV_CLOCKMARK_FILE));
    CU_ASSERT_EQUAL(read_mark(folder), NOW + CHV_CLOCKMARK_INTERVAL);
    chv_clockmark_close(&mark);

    static const char *const damaged[] = {"", "x", "12", "-5\n", "1800000000 \n", "99999999999999999999999\n"};
    for (size_t i = 0; i < sizeof damaged / sizeof damaged[0]; i++) {
        write_file(folder, damaged[i]);
        CU_ASSERT_EQUAL(chv_clockmark_open(&mark, folder, &why), CHV_ERR_CONFIG);
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, folder));
    }
    CU_ASSERT_EQUAL(chv_clockmark_open(&mark, "/nonexistent", &why), CHV_ERR_CONFIG);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "/nonexistent"));
    free(folder);
}

TEST_MAIN("keeper", {"good", test_good}, {"expired gets its true PSK", test_expired_gets_its_psk},
          {"lifetime", test_lifetime}, {"unknown epoch", test_unknown_epoch},
          {"malformed requests", test_malformed_requests}, {"Diffie-Hellman", test_dh}, {"packets", test_packets},
          {"own server name", test_own_server_name}, {"open failures", test_open_failures},
          {"configure", test_configure}, {"key check", test_key_check}, {"keystore fault", test_keystore_fault},
          {"clock", test_clock}, {"clock while nobody asks", test_clock_while_nobody_asks}, {"key update", test_update},
          {"no key update", test_no_update}, {"clock mark file", test_clock_mark_file})
