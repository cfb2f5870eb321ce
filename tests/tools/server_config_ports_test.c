/* SPDX-License-Identifier: Apache-2.0 */
/* Two ports, and data sides of their own, in the configuration file. */
#include "tests/harness.h"
#include "tools/server_config.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define HEAD "[server]\nname = s1\nkeystore = keys\n"
#define SIDE "[server]\nname = s1\ndata = 0.0.0.0:7041\n"
#define KEYS "[tickets]\nkeys = t.keys\n"

static struct chv_server_config config;
static struct chv_why why;

static enum chv_err parse(const char *text)
{
    memset(&config, 0x5a, sizeof config);
    why.text[0] = '\0';
    return chv_server_config_parse(text, "/etc/x/c.conf", &config, &why);
}

static enum chv_err parse_data(const char *text)
{
    memset(&config, 0x5a, sizeof config);
    why.text[0] = '\0';
    return chv_server_config_parse_data(text, "/etc/x/c.conf", &config, &why);
}

/* It failed with one line that names the file, the line (0: none) and both words; the output stayed as it was. */
static void says(enum chv_err err, int line, const char *word1, const char *word2)
{
    char where[64];
    const struct chv_server_config *const before = &config;
    CU_ASSERT_EQUAL(err, CHV_ERR_CONFIG);
    CU_ASSERT_EQUAL(before->name[0], 0x5a);
    snprintf(where, sizeof where, line > 0 ? "/etc/x/c.conf:%d: " : "/etc/x/c.conf: ", line);
    if (strncmp(why.text, where, strlen(where)) != 0 || strstr(why.text, word1) == NULL ||
        strstr(why.text, word2) == NULL || strchr(why.text, '\n') != NULL) {
        CU_FAIL("error text");
        fprintf(stderr, "no '%s', '%s' or '%s' in '%s'\n", where, word1, word2, why.text);
    }
}

static void test_ports(void)
{
    CU_ASSERT_EQUAL(parse(HEAD), CHV_OK);
    CU_ASSERT(config.listen_count == 1 && config.handshake_count == 0 && config.data_count == 0);
    CU_ASSERT_FALSE(config.data_only);
    CU_ASSERT_FALSE(chv_server_has_two_ports(&config));
    CU_ASSERT_EQUAL(parse(HEAD "handshake = 0.0.0.0:7040, [::]:7040\ndata = 127.0.0.1:0, host.example:7042\n"), CHV_OK);
    CU_ASSERT_EQUAL(config.listen_count, 0); /* its default is for one port */
    CU_ASSERT_EQUAL(config.handshake_count, 2);
    CU_ASSERT_STRING_EQUAL(config.handshake[1], "[::]:7040");
    CU_ASSERT_EQUAL(config.data_count, 2);
    CU_ASSERT_STRING_EQUAL(config.data[0], "127.0.0.1:0");
    CU_ASSERT_STRING_EQUAL(config.data[1], "host.example:7042");
    CU_ASSERT_TRUE(chv_server_has_two_ports(&config));
    CU_ASSERT_EQUAL(parse(HEAD "listen = unix:/s\nhandshake = a:1\ndata = a:2\n"), CHV_OK);
    CU_ASSERT_EQUAL(config.listen_count, 1); /* beside the others */
    CU_ASSERT_STRING_EQUAL(config.listen[0], "unix:/s");
    CU_ASSERT_EQUAL(parse(HEAD "handshake = a:1\ndata = a:0, a:0, [::1]:0\n"), CHV_OK); /* three different ports */
    CU_ASSERT_EQUAL(config.data_count, 3);
}

static void test_redirect(void)
{
    CU_ASSERT_EQUAL(parse(HEAD "handshake = a:1\nredirect = 7041, b.example:7042, [2001:db8::1]:65535\n"), CHV_OK);
    CU_ASSERT_EQUAL(config.redirect_count, 3);
    CU_ASSERT_STRING_EQUAL(config.redirect[0].host, "");
    CU_ASSERT_EQUAL(config.redirect[0].port, 7041);
    CU_ASSERT_STRING_EQUAL(config.redirect[1].host, "b.example");
    CU_ASSERT_EQUAL(config.redirect[1].port, 7042);
    CU_ASSERT_STRING_EQUAL(config.redirect[2].host, "2001:db8::1");
    CU_ASSERT_EQUAL(config.redirect[2].port, 65535);
    CU_ASSERT_TRUE(chv_server_has_two_ports(&config));
}

static void test_bad_values(void)
{
    static const char *const bad[] = {
        "handshake = unix:/s",
        "handshake = 7040",
        "handshake =",
        "handshake = a:1, a:1",
        "data = unix:/s",
        "data = here",
        "data =",
        "data = a:65536",
        "redirect = 0",
        "redirect = 65536",
        "redirect = a:0",
        "redirect = a",
        "redirect = :80",
        "redirect = ::1:80",
        "redirect = []:80",
        "redirect = 1, 1",
        "redirect = a/b:80",
        "redirect = a:1, a:1",
        "redirect = unix:/s",
        "redirect =",
        "session-limit = ever",
        "session-limit = -1",
        "redirect = [::1]:70000",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[256];
        snprintf(text, sizeof text, HEAD "%s\n", bad[i]);
        says(parse(text), 4, "is not allowed; allowed: ", "");
    }
    says(parse(HEAD "redirect = 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n"), 4, "redirect", "up to 16");
}

/* Each is of no use without another. */
static void test_combinations(void)
{
    says(parse(HEAD "handshake = a:1\n"), 4, "'handshake'", "'data' or 'redirect'");
    says(parse(HEAD "epochs = 1\ndata = a:1\n"), 5, "'data'", "--data-only");
    says(parse(HEAD "data = a:1\nredirect = 2\n"), 4, "'data'", "without 'handshake'");
    says(parse(HEAD "redirect = 2\n"), 4, "'redirect'", "without 'handshake'");
    says(parse(HEAD "listen = a:1\nredirect = 2\n"), 5, "'redirect'", "without 'handshake'");
    says(parse(HEAD "session-limit = 1h\n"), 4, "'session-limit'", "--data-only");
    says(parse(HEAD KEYS), 5, "[tickets] 'keys'", "--data-only");
    says(parse(SIDE KEYS), 3, "'data'", "--data-only"); /* such a file without the option */
}

static void test_data_side(void)
{
    CU_ASSERT_EQUAL(parse_data(SIDE "session-limit = 2h\nworkers = 1\n[files]\nhome = /f/%i\n" KEYS), CHV_OK);
    CU_ASSERT_TRUE(config.data_only);
    CU_ASSERT_EQUAL(config.listen_count, 0);
    CU_ASSERT_EQUAL(config.session_limit, 7200);
    CU_ASSERT_STRING_EQUAL(config.ticket_keys, "/etc/x/t.keys");
    CU_ASSERT_STRING_EQUAL(config.keystore, "");
    CU_ASSERT_STRING_EQUAL(config.registry, ""); /* nobody is asked */
    CU_ASSERT_FALSE(chv_server_has_registry(&config));
    CU_ASSERT_EQUAL(parse_data(SIDE "registry = sqlite:r\n" KEYS), CHV_OK);
    CU_ASSERT_STRING_EQUAL(config.registry, "sqlite:/etc/x/r");
    const char *const address = "127.0.0.1:1";
    CU_ASSERT_EQUAL(chv_server_config_listen(&config, &address, 1, &why), CHV_ERR_CONFIG);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "--listen is not for a data side"));
}

static void test_bad_data_side(void)
{
    static const char *const none[] = {"keystore = k", "passphrase-file = p", "pin-hold = yes",   "epochs = 1",
                                       "update = no",  "profiles = psk",      "listen = a:1",     "handshake = a:1",
                                       "redirect = 1", "allowed-keys = a",    "max-lifetime = 1d"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        char text[256], key[64];
        snprintf(text, sizeof text, SIDE "%s\n" KEYS, none[i]);
        snprintf(key, sizeof key, "'%.*s'", (int)strcspn(none[i], " "), none[i]);
        says(parse_data(text), 4, key, "is not for a data side");
    }
    says(parse_data(SIDE "[files]\nhome = /f/%i\nreceipts = on\n" KEYS), 6, "'receipts'", "is not for a data side");
    says(parse_data(SIDE "[limits]\nkeeper-queue = 5\n" KEYS), 5, "'keeper-queue'", "is not for a data side");
    says(parse_data(SIDE KEYS "audience = fleet\n"), 6, "'audience'", "is not for a data side");
    says(parse_data("[server]\nname = s1\n" KEYS), 0, "no 'data'", "");
    says(parse_data(SIDE), 0, "no 'keys'", "keyadmin ticket-keys");
    says(parse_data("[server]\ndata = a:1\n" KEYS), 0, "no 'name'", "");
    says(parse_data(SIDE "registry-required = no\n" KEYS), 0, "registry-required = no", "'registry'");
}

TEST_MAIN("server_config_ports", {"ports", test_ports}, {"redirect", test_redirect}, {"bad values", test_bad_values},
          {"combinations", test_combinations}, {"data side", test_data_side}, {"bad data side", test_bad_data_side})
