/* SPDX-License-Identifier: Apache-2.0 */
/* The file of ticket keys of a data side. */
#include "net/ticket_keys.h"
#include "tests/harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEAD "chaveiro-ticket-keys 1\naudience gate/data\n"
#define HEX "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define DAY UINT64_C(86400)

static struct chv_ticket_keys keys;
static struct chv_why why;

static enum chv_err parse(const char *text)
{
    memset(&keys, 0x5a, sizeof keys);
    why.text[0] = '\0';
    return chv_ticket_keys_parse(text, strlen(text), "t.keys", &keys, &why);
}

static void test_parse(void)
{
    CU_ASSERT_EQUAL(parse(HEAD "# for people\n\nkey 1 20000 " HEX "\nkey 2 20000 " HEX "\nkey 1 20001 " HEX), CHV_OK);
    CU_ASSERT_STRING_EQUAL(keys.audience, "gate/data");
    CU_ASSERT_EQUAL(keys.count, 3);
    CU_ASSERT(keys.list[0].epoch == 1 && keys.list[0].period == 20000 && keys.list[0].key[31] == 0x1f);
    CU_ASSERT(keys.list[1].epoch == 2 && keys.list[2].period == 20001);
}

static void bad(const char *text, const char *wanted)
{
    const struct chv_ticket_keys none = {.count = 0};
    CU_ASSERT_EQUAL(parse(text), CHV_ERR_CONFIG);
    CU_ASSERT_EQUAL(memcmp(&keys, &none, sizeof keys), 0); /* nothing of it stays */
    if (strstr(why.text, wanted) == NULL || strstr(why.text, "0001020304") != NULL) {
        CU_FAIL("error text");
        fprintf(stderr, "no '%s' in '%s', or a key\n", wanted, why.text);
    }
}

static void test_refused(void)
{
    bad("", "t.keys: there are no ticket keys");
    bad("chaveiro-ticket-keys 2\n", "t.keys:1: ");
    bad("# chaveiro-ticket-keys 1\n", "t.keys:1: ");
    bad(HEAD, "no ticket keys");
    bad("chaveiro-ticket-keys 1\nkey 1 20000 " HEX "\n", "t.keys:2: a key before the audience");
    bad(HEAD "audience other/data\n", "t.keys:3: not one audience");
    bad("chaveiro-ticket-keys 1\naudience \n", "t.keys:2: not one audience");
    bad(HEAD "key 0 20000 " HEX "\n", "t.keys:3: ");
    bad(HEAD "key 01 20000 " HEX "\n", "t.keys:3: ");
    bad(HEAD "key 4294967296 20000 " HEX "\n", "t.keys:3: ");
    bad(HEAD "key 1 x " HEX "\n", "t.keys:3: ");
    bad(HEAD "key 1 20000\n", "t.keys:3: ");
    bad(HEAD "key 1 20000 " HEX "00\n", "t.keys:3: ");
    bad(HEAD "key 1 20000 00\n", "t.keys:3: ");
    bad(HEAD "key 1 20000 " HEX " x\n", "t.keys:3: ");
    bad(HEAD "key 1 20000 " HEX "\nkey 1 20000 " HEX "\n", "t.keys:4: a second key");
    bad(HEAD "master 1 " HEX "\n", "t.keys:3: neither");
    CU_ASSERT_EQUAL(chv_ticket_keys_parse("chaveiro\0", 9, "t.keys", &keys, &why), CHV_ERR_CONFIG);
}

static void test_too_many(void)
{
    static char text[CHV_TICKET_KEYS_TEXT_MAX];
    size_t len = (size_t)snprintf(text, sizeof text, HEAD);
    for (int i = 0; i < CHV_TICKET_KEYS_MAX; i++)
        len += (size_t)snprintf(text + len, sizeof text - len, "key 1 %d " HEX "\n", 20000 + i);
    CU_ASSERT_EQUAL(parse(text), CHV_OK);
    CU_ASSERT_EQUAL(keys.count, CHV_TICKET_KEYS_MAX);
    static char again[CHV_TICKET_KEYS_TEXT_MAX];
    size_t room = sizeof again;
    CU_ASSERT_EQUAL(chv_ticket_keys_format(&keys, again, &room), CHV_OK);
    CU_ASSERT_EQUAL(room, len);
    CU_ASSERT_STRING_EQUAL(again, text);
    room = len; /* no room for the NUL */
    CU_ASSERT_EQUAL(chv_ticket_keys_format(&keys, again, &room), CHV_ERR_SPACE);
    (void)snprintf(text + len, sizeof text - len, "key 1 30000 " HEX "\n");
    bad(text, ": too many keys");
}

static void test_end(void)
{
    CU_ASSERT_EQUAL(parse(HEAD "key 1 20000 " HEX "\nkey 1 20002 " HEX "\nkey 2 20001 " HEX "\nkey 1 20004 " HEX),
                    CHV_OK);
    CU_ASSERT_EQUAL(chv_ticket_keys_end(&keys, 20000 * DAY), 20003 * DAY); /* up to the gap */
    CU_ASSERT_EQUAL(chv_ticket_keys_end(&keys, 20002 * DAY + DAY - 1), 20003 * DAY);
    CU_ASSERT_EQUAL(chv_ticket_keys_end(&keys, 20003 * DAY), 0);
    CU_ASSERT_EQUAL(chv_ticket_keys_end(&keys, 20000 * DAY - 1), 0);
    CU_ASSERT_EQUAL(chv_ticket_keys_end(&keys, 20004 * DAY), 20005 * DAY);
}

static void test_load(void)
{
    char folder[] = "/tmp/chv-test-XXXXXX", path[64];
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/t.keys", folder);
    CU_ASSERT_EQUAL(chv_ticket_keys_load(path, "gate", &keys, &why), CHV_ERR_NOT_FOUND);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, path));
    FILE *f = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    fputs(HEAD "key 1 20000 " HEX "\n", f);
    fclose(f);
    CU_ASSERT_EQUAL(chmod(path, 0640), 0);
    CU_ASSERT_EQUAL(chv_ticket_keys_load(path, "gate", &keys, &why), CHV_ERR_STORE_MODE);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "chmod 600"));
    CU_ASSERT_EQUAL(chmod(path, 0600), 0);
    CU_ASSERT_EQUAL(chv_ticket_keys_load(path, "gate", &keys, &why), CHV_OK);
    CU_ASSERT_EQUAL(keys.count, 1);
    CU_ASSERT_EQUAL(chv_ticket_keys_load(path, "gat", &keys, &why), CHV_ERR_CONFIG);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "for gate/data, not for gat/data"));
    CU_ASSERT_EQUAL(keys.count, 0);
    if (geteuid() == 0) {
        CU_ASSERT_EQUAL(chown(path, 12345, (gid_t)-1), 0);
        CU_ASSERT_EQUAL(chv_ticket_keys_load(path, "gate", &keys, &why), CHV_ERR_STORE_MODE);
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "belongs to user 12345"));
    }
    CU_ASSERT_EQUAL(chv_ticket_keys_load(folder, "gate", &keys, &why), CHV_ERR_CONFIG);
    CU_ASSERT_EQUAL(unlink(path), 0);
    CU_ASSERT_EQUAL(rmdir(folder), 0);
}

TEST_MAIN("ticket_keys", {"parse", test_parse}, {"refused", test_refused}, {"too many", test_too_many},
          {"end", test_end}, {"load", test_load})
