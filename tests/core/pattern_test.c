/* SPDX-License-Identifier: Apache-2.0 */
#include "core/pattern.h"

#include "tests/harness.h"

#include <stdio.h>
#include <string.h>

static void find(const char *name, struct chv_noise_pattern *p)
{
    CU_ASSERT_EQUAL_FATAL(chv_noise_pattern_find(name, p), CHV_OK);
    CU_ASSERT_STRING_EQUAL(p->name, name);
}

static void check_message(const struct chv_noise_pattern *p, size_t message, const char *expected)
{
    static const char *const names[] = {"", "e", "s", "ee", "es", "se", "ss", "psk"};
    char text[64] = "";
    size_t len = 0;

    for (size_t i = 0; p->tokens[message][i] != CHV_TOKEN_END; i++)
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%s", i == 0 ? "" : " ", names[p->tokens[message][i]]);
    CU_ASSERT_STRING_EQUAL(text, expected);
}

static void test_basic(void)
{
    struct chv_noise_pattern p;

    find("NN", &p);
    CU_ASSERT(p.messages == 2 && !p.one_way && !p.psk && !p.pre_initiator && !p.pre_responder);
    check_message(&p, 0, "e");
    check_message(&p, 1, "e ee");
    find("IK", &p);
    CU_ASSERT(p.messages == 2 && !p.one_way && !p.pre_initiator && p.pre_responder);
    check_message(&p, 0, "e es s ss");
    check_message(&p, 1, "e ee se");
    find("KX", &p);
    CU_ASSERT(p.pre_initiator && !p.pre_responder);
    find("K", &p);
    CU_ASSERT(p.messages == 1 && p.one_way && p.pre_initiator && p.pre_responder);
    check_message(&p, 0, "e es ss");
    find("X1X1", &p);
    CU_ASSERT(p.messages == 4 && !p.one_way);
    check_message(&p, 2, "es s");
    check_message(&p, 3, "se");
}

/* Each message is sent by a side that has made its e by then, and every interactive pattern has exactly one ee. */
static void test_all(void)
{
    struct chv_noise_pattern p;
    size_t count = 0;

    for (const char *name; (name = chv_noise_pattern_name(count)) != NULL; count++) {
        unsigned ee = 0;
        find(name, &p);
        CU_ASSERT(p.messages >= 1 && p.messages <= CHV_PATTERN_MESSAGES_MAX);
        for (size_t m = 0; m < p.messages; m++) {
            CU_ASSERT_EQUAL(p.tokens[m][CHV_PATTERN_TOKENS_MAX - 1], CHV_TOKEN_END);
            CU_ASSERT(m >= 2 || p.tokens[m][0] == CHV_TOKEN_E);
            for (size_t t = 0; p.tokens[m][t] != CHV_TOKEN_END; t++)
                ee += p.tokens[m][t] == CHV_TOKEN_EE;
        }
        CU_ASSERT_EQUAL(ee, p.one_way ? 0 : 1);
        CU_ASSERT_EQUAL(p.one_way, strlen(name) == 1);
        CU_ASSERT(p.one_way || p.messages >= 2);
    }
    CU_ASSERT_EQUAL(count, 38);
}

static void test_modifiers(void)
{
    struct chv_noise_pattern p;

    find("NNpsk2", &p);
    CU_ASSERT(p.psk);
    check_message(&p, 0, "e");
    check_message(&p, 1, "e ee psk");
    find("IKpsk2", &p);
    check_message(&p, 1, "e ee se psk");
    find("NNpsk0+psk2", &p);
    check_message(&p, 0, "psk e");
    check_message(&p, 1, "e ee psk");
    find("IKpsk0+psk1", &p);
    check_message(&p, 0, "psk e es s ss psk");
    find("X1X1psk0+psk1+psk2+psk3+psk4", &p);
    check_message(&p, 0, "psk e psk");
    check_message(&p, 3, "se psk");
}

static void test_unknown(void)
{
    static const char *const names[] = {
        "",
        "n",
        "NNN",
        "ZZ",
        "N1",
        "NN1",
        "NNpsk",
        "NNpsk3",
        "NNpsk2+",
        "NNpsk2psk2",
        "NNpsk2+psk2",
        "NN+psk2",
        "NNpsk2+2",
        "NNpskx",
        "NNpsk22",
        "NNpsk2+psk0",
        "NNfallback",
        "XXhfs",
        "NNpsk2 ",
        "psk0",
        "Npsk2",
        "NNpsk-1",
        "NNp",
        "NNpsk0+xsk1",
        "XXpsk0+psk1+psk2+psk3+psk4+psk5+psk6",
    };
    struct chv_noise_pattern p;

    memset(&p, 0xaa, sizeof p);
    const struct chv_noise_pattern before = p;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const enum chv_err err = chv_noise_pattern_find(names[i], &p);
        if (err != CHV_ERR_NOT_FOUND)
            fprintf(stderr, "%s: %s\n", names[i], chv_err_name(err));
        CU_ASSERT_EQUAL(err, CHV_ERR_NOT_FOUND);
        CU_ASSERT(memcmp(&p, &before, sizeof p) == 0);
    }
}

TEST_MAIN("pattern", {"basic patterns", test_basic}, {"all patterns", test_all}, {"psk modifiers", test_modifiers},
          {"unknown names", test_unknown})
