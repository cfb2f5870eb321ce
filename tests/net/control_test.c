/* SPDX-License-Identifier: Apache-2.0 */
/* OPEN, STATUS, TICKET and REDIRECT maps: what is written is read, and nothing else is. */
#include "net/control.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "tests/harness.h"

static enum chv_err open_of(const void *map, size_t len)
{
    struct chv_open open;
    memset(&open, 'x', sizeof open);
    enum chv_err err = chv_open_decode(map, len, &open);
    if (err != CHV_OK)
        CU_ASSERT_EQUAL(open.service[0], 'x'); /* outputs only on success */
    return err;
}

static enum chv_err status_of(const void *map, size_t len)
{
    struct chv_status status = {.code = 1};
    enum chv_err err = chv_status_decode(map, len, &status);
    if (err != CHV_OK)
        CU_ASSERT_EQUAL(status.code, 1);
    return err;
}

static const uint8_t nest[3] = {0xa1, 0x61, 'q'}; /* {"q": */

#define OPEN(literal) open_of(literal, sizeof(literal) - 1)
#define STATUS(literal) status_of(literal, sizeof(literal) - 1)
#define SERVICE "\x67service" /* text of 7 bytes */
#define NAME "\x67message"

static void test_round_trip(void)
{
    struct chv_open open = {.service = "message"}, open2;
    struct chv_status status = {.code = 403, .text = "revoked: \xc3\xa9"}, status2;
    uint8_t map[CHV_CONTROL_MAX];
    size_t len = sizeof map;
    CU_ASSERT_EQUAL(chv_open_encode(&open, map, &len), CHV_OK);
    CU_ASSERT_EQUAL(len, 17);
    CU_ASSERT_EQUAL(memcmp(map, "\xa1" SERVICE NAME, len), 0);
    CU_ASSERT_EQUAL(chv_open_decode(map, len, &open2), CHV_OK);
    CU_ASSERT_STRING_EQUAL(open2.service, open.service);
    CU_ASSERT_FALSE(open2.has_instance);
    len = sizeof map;
    CU_ASSERT_EQUAL(chv_status_encode(&status, map, &len), CHV_OK);
    CU_ASSERT_EQUAL(chv_status_decode(map, len, &status2), CHV_OK);
    CU_ASSERT_EQUAL(status2.code, 403);
    CU_ASSERT_STRING_EQUAL(status2.text, status.text);
    memset(status.text, 'a', sizeof status.text - 1);
    len = sizeof map;
    CU_ASSERT_EQUAL(chv_status_encode(&status, map, &len), CHV_OK);
    CU_ASSERT_EQUAL(chv_status_decode(map, len, &status2), CHV_OK);
    CU_ASSERT_STRING_EQUAL(status2.text, status.text);
}

/* Of one run all connections say the same; 16 bytes and nothing else. */
static void test_instance(void)
{
    struct chv_open open = {.service = "message"}, open2 = {.service = "x"}, read;
    uint8_t map[CHV_CONTROL_MAX];
    size_t len = sizeof map;
    CU_ASSERT_EQUAL(chv_open_instance(&open), CHV_OK);
    CU_ASSERT_EQUAL(chv_open_instance(&open2), CHV_OK);
    CU_ASSERT_EQUAL(memcmp(open.instance, open2.instance, CHV_INSTANCE_LEN), 0);
    CU_ASSERT_EQUAL(chv_open_encode(&open, map, &len), CHV_OK);
    CU_ASSERT_EQUAL(chv_open_decode(map, len, &read), CHV_OK);
    CU_ASSERT_TRUE(read.has_instance);
    CU_ASSERT_EQUAL(memcmp(open.instance, read.instance, CHV_INSTANCE_LEN), 0);
    map[len - CHV_INSTANCE_LEN - 1]--; /* the head of its 16 bytes says 15 */
    CU_ASSERT_EQUAL(chv_open_decode(map, len - 1, &read), CHV_ERR_MALFORMED);
}

static void test_open_options(void)
{
    struct chv_open open = {.service = "tunnel", .tickets = 8, .tunnel = "db-1.a_z"}, read;
    uint8_t map[CHV_CONTROL_MAX];
    size_t len = sizeof map;
    CU_ASSERT_EQUAL(chv_open_encode(&open, map, &len), CHV_OK);
    CU_ASSERT_EQUAL(chv_open_decode(map, len, &read), CHV_OK);
    CU_ASSERT_EQUAL(read.tickets, 8);
    CU_ASSERT_STRING_EQUAL(read.tunnel, "db-1.a_z");
    CU_ASSERT_EQUAL(OPEN("\xa2" SERVICE NAME "\x67tickets\x08"), CHV_OK);
    CU_ASSERT_EQUAL(OPEN("\xa2" SERVICE NAME "\x67tickets\x00"), CHV_OK);
    CU_ASSERT_EQUAL(OPEN("\xa2" SERVICE NAME "\x67tickets\x09"), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(OPEN("\xa2" SERVICE NAME "\x67tickets\x1b\x00\x00\x00\x01\x00\x00\x00\x01"), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(OPEN("\xa2" SERVICE NAME "\x67tickets\x61\x31"), CHV_ERR_MALFORMED); /* text */
    CU_ASSERT_EQUAL(OPEN("\xa2" SERVICE NAME "\x66tunnel\x62\x64\x62"), CHV_OK);
    CU_ASSERT_EQUAL(OPEN("\xa2" SERVICE NAME "\x66tunnel\x60"), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(OPEN("\xa2" SERVICE NAME "\x66tunnel\x62\x64/"), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(OPEN("\xa2" SERVICE NAME "\x66tunnel\x01"), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(OPEN("\xa2" SERVICE NAME "\x66tunnel\x62\x64\x42"), CHV_ERR_MALFORMED); /* dB */
    CU_ASSERT_EQUAL(OPEN("\xa2" SERVICE NAME "\x66tunnel\x78\x19"
                         "aaaaaaaaaaaaaaaaaaaaaaaaa"),
                    CHV_OK); /* 25 */
    CU_ASSERT_EQUAL(OPEN("\xa2" SERVICE NAME "\x66tunnel\x78\x1a"
                         "aaaaaaaaaaaaaaaaaaaaaaaaaa"),
                    CHV_ERR_MALFORMED); /* 26 */
    open.tickets = 9;
    CU_ASSERT_EQUAL(chv_open_encode(&open, map, &len), CHV_ERR_ARGUMENT);
    open.tickets = 0;
    memcpy(open.tunnel, "a b", 4);
    CU_ASSERT_EQUAL(chv_open_encode(&open, map, &len), CHV_ERR_ARGUMENT);
    memset(open.tunnel, 'a', sizeof open.tunnel); /* no NUL */
    CU_ASSERT_EQUAL(chv_open_encode(&open, map, &len), CHV_ERR_ARGUMENT);
    CU_ASSERT_TRUE(chv_tunnel_name_valid("db"));
    CU_ASSERT_FALSE(chv_tunnel_name_valid("dB"));
    CU_ASSERT_FALSE(chv_tunnel_name_valid(""));
}

static enum chv_err grant_of(const void *map, size_t len)
{
    struct chv_grant grant;
    memset(&grant, 'x', sizeof grant);
    enum chv_err err = chv_grant_decode(map, len, &grant);
    if (err != CHV_OK)
        CU_ASSERT_EQUAL(grant.host[0], 'x'); /* outputs only on success */
    return err;
}

#define GRANT(literal) grant_of(literal, sizeof(literal) - 1)
#define TICKET "\x66ticket\x43\x01\x02\x03"
#define NUMBER "\x66number\x01"
#define LIFE "\x68lifetime\x18\x1e"
#define PORT "\x64port\x19\x1c\x48"

static void test_grant(void)
{
    struct chv_grant grant = {.ticket = {1, 2, 3}, .ticket_len = 3, .number = 1, .lifetime = 30}, read;
    uint8_t map[CHV_CONTROL_MAX];
    size_t len = sizeof map;
    CU_ASSERT_EQUAL(chv_grant_encode(&grant, map, &len), CHV_OK);
    CU_ASSERT_EQUAL(len, sizeof("\xa3" TICKET NUMBER LIFE) - 1);
    CU_ASSERT_EQUAL(memcmp(map, "\xa3" TICKET NUMBER LIFE, len), 0);
    CU_ASSERT_EQUAL(chv_grant_decode(map, len, &read), CHV_OK);
    CU_ASSERT_EQUAL(memcmp(&read, &grant, sizeof read), 0);
    /* the most that there can be */
    memset(grant.ticket, 0xff, sizeof grant.ticket);
    memset(grant.host, 'h', CHV_GRANT_HOST_MAX);
    grant.ticket_len = sizeof grant.ticket;
    grant.number = grant.lifetime = UINT32_MAX;
    grant.port = UINT16_MAX;
    len = sizeof map;
    CU_ASSERT_EQUAL(chv_grant_encode(&grant, map, &len), CHV_OK);
    CU_ASSERT_EQUAL(chv_grant_decode(map, len, &read), CHV_OK);
    CU_ASSERT_EQUAL(memcmp(&read, &grant, sizeof read), 0);
    for (size_t cut = 0; cut < len; cut++)
        CU_ASSERT_EQUAL(grant_of(map, cut), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(GRANT("\xa4" TICKET NUMBER LIFE PORT), CHV_OK);
    CU_ASSERT_EQUAL(GRANT("\xa5" TICKET NUMBER LIFE PORT "\x64host\x63::1"), CHV_OK);
    CU_ASSERT_EQUAL(GRANT("\xa4" TICKET NUMBER LIFE "\x61q\x01"), CHV_OK); /* unknown */
}

static void test_grant_refuses(void)
{
    struct chv_grant grant = {.ticket_len = 3, .lifetime = 30};
    uint8_t map[CHV_CONTROL_MAX];
    size_t len = sizeof map;
    CU_ASSERT_EQUAL(GRANT("\xa2" NUMBER LIFE), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(GRANT("\xa2" TICKET LIFE), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(GRANT("\xa2" TICKET NUMBER), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(GRANT("\xa3\x66ticket\x40" NUMBER LIFE), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(GRANT("\xa3\x66ticket\x61\x61" NUMBER LIFE), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(GRANT("\xa3" TICKET "\x66number\x1b\x00\x00\x00\x01\x00\x00\x00\x00" LIFE), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(GRANT("\xa3" TICKET NUMBER "\x68lifetime\x00"), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(GRANT("\xa3" TICKET NUMBER "\x68lifetime\x1b\x00\x00\x00\x01\x00\x00\x00\x00"), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(GRANT("\xa4" TICKET NUMBER LIFE "\x64port\x00"), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(GRANT("\xa4" TICKET NUMBER LIFE "\x64port\x1a\x00\x01\x00\x00"), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(GRANT("\xa4" TICKET NUMBER LIFE "\x64port\x61\x31"), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(GRANT("\xa4" TICKET NUMBER LIFE "\x64host\x61\x61"), CHV_ERR_MALFORMED); /* no port */
    CU_ASSERT_EQUAL(GRANT("\xa5" TICKET NUMBER LIFE PORT "\x64host\x60"), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(GRANT("\xa5" TICKET NUMBER LIFE PORT "\x64host\x63\x61 \x61"), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(GRANT("\xa5" TICKET NUMBER LIFE PORT "\x64host\x62/\x61"), CHV_ERR_MALFORMED);
    /* a ticket that is too long */
    static const char head[] = "\xa3" NUMBER LIFE "\x66ticket\x59";
    for (size_t extra = 0; extra < 2; extra++) {
        const size_t body = CHV_TICKET_MAX + extra;
        memset(map, 0, sizeof map);
        memcpy(map, head, sizeof head - 1);
        map[sizeof head - 1] = (uint8_t)(body >> 8);
        map[sizeof head] = (uint8_t)body;
        CU_ASSERT_EQUAL(grant_of(map, sizeof head + 1 + body), extra == 0 ? CHV_OK : CHV_ERR_MALFORMED);
    }
    grant.ticket_len = 0;
    CU_ASSERT_EQUAL(chv_grant_encode(&grant, map, &len), CHV_ERR_ARGUMENT);
    grant.ticket_len = CHV_TICKET_MAX + 1;
    CU_ASSERT_EQUAL(chv_grant_encode(&grant, map, &len), CHV_ERR_ARGUMENT);
    grant.ticket_len = 3;
    grant.lifetime = 0;
    CU_ASSERT_EQUAL(chv_grant_encode(&grant, map, &len), CHV_ERR_ARGUMENT);
    grant.lifetime = 1;
    grant.host[0] = 'h';
    CU_ASSERT_EQUAL(chv_grant_encode(&grant, map, &len), CHV_ERR_ARGUMENT);
    grant.port = 1;
    len = 20;
    CU_ASSERT_EQUAL(chv_grant_encode(&grant, map, &len), CHV_ERR_SPACE);
    CU_ASSERT_EQUAL(len, 20);
}

static void test_encode_refuses(void)
{
    struct chv_open open = {.service = ""};
    struct chv_status status = {.code = 99, .text = "x"};
    uint8_t map[64];
    size_t len = sizeof map;
    CU_ASSERT_EQUAL(chv_open_encode(&open, map, &len), CHV_ERR_ARGUMENT);
    memset(open.service, 'a', sizeof open.service); /* no NUL */
    CU_ASSERT_EQUAL(chv_open_encode(&open, map, &len), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_status_encode(&status, map, &len), CHV_ERR_ARGUMENT);
    status.code = 600;
    CU_ASSERT_EQUAL(chv_status_encode(&status, map, &len), CHV_ERR_ARGUMENT);
    status.code = 200;
    status.text[0] = (char)0xff;
    CU_ASSERT_EQUAL(chv_status_encode(&status, map, &len), CHV_ERR_ARGUMENT);
    status.text[0] = 'x';
    for (size_t room = 0; room < 15; room++) {
        len = room;
        CU_ASSERT_EQUAL(chv_status_encode(&status, map, &len), CHV_ERR_SPACE);
        CU_ASSERT_EQUAL(len, room);
    }
    len = 15;
    CU_ASSERT_EQUAL(chv_status_encode(&status, map, &len), CHV_OK);
    CU_ASSERT_EQUAL(len, 15);
}

static void test_decode_takes(void)
{
    CU_ASSERT_EQUAL(OPEN("\xa1" SERVICE NAME), CHV_OK);
    /* unknown keys: numbers, null, bytes, arrays, floats, a tag, a map */
    CU_ASSERT_EQUAL(OPEN("\xa2" SERVICE NAME "\x61q\x19\x01\x00"), CHV_OK);
    CU_ASSERT_EQUAL(OPEN("\xa2\x61q\xf6" SERVICE NAME), CHV_OK);
    CU_ASSERT_EQUAL(OPEN("\xa2\x61q\x42\xff\x00" SERVICE NAME), CHV_OK);
    CU_ASSERT_EQUAL(OPEN("\xa2\x61q\x83\x01\x20\xf5" SERVICE NAME), CHV_OK);
    CU_ASSERT_EQUAL(OPEN("\xa2\x61q\xf9\x3c\x00" SERVICE NAME), CHV_OK);
    CU_ASSERT_EQUAL(OPEN("\xa2\x61q\xc1\x01" SERVICE NAME), CHV_OK);
    CU_ASSERT_EQUAL(OPEN("\xa2\x61q\xa1\x61r\x80" SERVICE NAME), CHV_OK);
    /* depth 4: map, map, array, array */
    CU_ASSERT_EQUAL(OPEN("\xa2\x61q\xa1\x61r\x81\x81\x01" SERVICE NAME), CHV_OK);
    CU_ASSERT_EQUAL(STATUS("\xa2\x64text\x60\x64"
                           "code\x18\xc8"),
                    CHV_OK);
}

static void test_decode_refuses(void)
{
    CU_ASSERT_EQUAL(OPEN(""), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(OPEN("\xa0"), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(OPEN("\x82" SERVICE NAME), CHV_ERR_MALFORMED);                 /* an array */
    CU_ASSERT_EQUAL(OPEN("\xa1" SERVICE NAME "\x00"), CHV_ERR_MALFORMED);          /* something behind it */
    CU_ASSERT_EQUAL(OPEN("\xbf" SERVICE NAME "\xff"), CHV_ERR_MALFORMED);          /* indefinite map */
    CU_ASSERT_EQUAL(OPEN("\xa1" SERVICE "\x7f\x61m\xff"), CHV_ERR_MALFORMED);      /* indefinite text */
    CU_ASSERT_EQUAL(OPEN("\xa2" SERVICE NAME "\x61q\x5f\xff"), CHV_ERR_MALFORMED); /* indefinite bytes */
    CU_ASSERT_EQUAL(OPEN("\xa2" SERVICE NAME "\x61q\x9f\xff"), CHV_ERR_MALFORMED); /* indefinite array */
    CU_ASSERT_EQUAL(OPEN("\xa2" SERVICE NAME SERVICE NAME), CHV_ERR_MALFORMED);    /* twice */
    CU_ASSERT_EQUAL(OPEN("\xa3" SERVICE NAME "\x61q\x01\x61q\x02"), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(OPEN("\xa2" SERVICE NAME "\x61q\xa2\x61r\x01\x61r\x01"), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(OPEN("\xa2" SERVICE NAME "\x61q\xc1\xa2\x61r\x01\x61r\x01"), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(OPEN("\xa2" SERVICE NAME "\x61q\x81\xa1\x01\x01"), CHV_ERR_MALFORMED); /* a key that is no text */
    CU_ASSERT_EQUAL(OPEN("\xa2" SERVICE NAME "\x01\x01"), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(OPEN("\xa1" SERVICE "\x47message"), CHV_ERR_MALFORMED); /* bytes */
    CU_ASSERT_EQUAL(OPEN("\xa1" SERVICE "\x01"), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(OPEN("\xa1" SERVICE "\x60"), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(OPEN("\xa1" SERVICE "\x62m\x00"), CHV_ERR_MALFORMED);         /* NUL */
    CU_ASSERT_EQUAL(OPEN("\xa1" SERVICE "\x62\xc3\x28"), CHV_ERR_MALFORMED);      /* not UTF-8 */
    CU_ASSERT_EQUAL(OPEN("\xa1" SERVICE "\x63\xed\xa0\x80"), CHV_ERR_MALFORMED);  /* a surrogate */
    CU_ASSERT_EQUAL(OPEN("\xa2" SERVICE NAME "\x61\xff\x01"), CHV_ERR_MALFORMED); /* a key that is not UTF-8 */
    CU_ASSERT_EQUAL(OPEN("\xa1" SERVICE "\x78\x21"
                         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
                    CHV_ERR_MALFORMED);                                                         /* 33 */
    CU_ASSERT_EQUAL(OPEN("\xa2" SERVICE NAME "\x61q\xa1\x61r\x81\x81\x80"), CHV_ERR_MALFORMED); /* depth 5 */
    CU_ASSERT_EQUAL(OPEN("\xa2" SERVICE NAME "\x61q\xc1\xc1\xc1\xc1\x01"), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(STATUS("\xa1\x64"
                           "code\x18\xc8"),
                    CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(STATUS("\xa2\x64text\x60\x64"
                           "code\x18\x63"),
                    CHV_ERR_MALFORMED); /* 99 */
    CU_ASSERT_EQUAL(STATUS("\xa2\x64text\x60\x64"
                           "code\x19\x02\x58"),
                    CHV_ERR_MALFORMED); /* 600 */
    CU_ASSERT_EQUAL(STATUS("\xa2\x64text\x60\x64"
                           "code\x39\x00\xc8"),
                    CHV_ERR_MALFORMED); /* negative */
    CU_ASSERT_EQUAL(STATUS("\xa2\x64text\x60\x64"
                           "code\x1b\x00\x00\x00\x01\x00\x00\x00\xc8"),
                    CHV_ERR_MALFORMED);
}

static void test_too_many(void)
{
    uint8_t map[CHV_CONTROL_MAX + 16] = {0xb8, 65}; /* 65 pairs */
    size_t len = 2;
    for (uint8_t i = 0; i < 64; i++) {
        const uint8_t pair[3] = {0x61, i + 1, 0xf6};
        memcpy(map + len, pair, sizeof pair);
        len += sizeof pair;
    }
    static const uint8_t service[16] = SERVICE NAME;
    memcpy(map + len, service, sizeof service);
    len += sizeof service;
    CU_ASSERT_EQUAL(open_of(map, len), CHV_ERR_MALFORMED);
    map[1] = 64;
    memmove(map + 2, map + 5, len - 5);
    CU_ASSERT_EQUAL(open_of(map, len - 3), CHV_OK);
    /* 4000 bytes are allowed, 4001 are not */
    static const char head[] = "\xa2" SERVICE NAME "\x61q\x59";
    for (size_t total = CHV_CONTROL_MAX; total <= CHV_CONTROL_MAX + 1; total++) {
        size_t body = total - (sizeof head - 1) - 2;
        memset(map, 0, sizeof map);
        memcpy(map, head, sizeof head - 1);
        map[sizeof head - 1] = (uint8_t)(body >> 8);
        map[sizeof head] = (uint8_t)body;
        CU_ASSERT_EQUAL(open_of(map, total), total == CHV_CONTROL_MAX ? CHV_OK : CHV_ERR_MALFORMED);
    }
}

static size_t heap_in_use(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static void test_huge_lengths_and_depth(void)
{
    static const char *const huge[] = {
        "\x7b\x7f\xff\xff\xff\xff\xff\xff\xff", "\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
        "\x9b\x00\x00\x00\x00\x40\x00\x00\x00", "\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
        "\xbb\x00\x00\x00\x00\x40\x00\x00\x00", "\xbb\x80\x00\x00\x00\x00\x00\x00\x00",
    };
    uint8_t map[2 + 2 * 1000 + 1];
    size_t before = heap_in_use();
    for (size_t i = 0; i < sizeof huge / sizeof huge[0]; i++) {
        memcpy(map, nest, sizeof nest);
        memcpy(map + 3, huge[i], 9);
        CU_ASSERT_EQUAL(open_of(map, 12), CHV_ERR_MALFORMED);
        CU_ASSERT_EQUAL(open_of(huge[i], 9), CHV_ERR_MALFORMED);
    }
    for (size_t i = 0; i < 1000; i++)
        memcpy(map + 3 * i % sizeof map, nest, 3 * i % sizeof map + 3 <= sizeof map ? 3 : 0);
    CU_ASSERT_EQUAL(open_of(map, sizeof map), CHV_ERR_MALFORMED);
    memset(map, 0x81, sizeof map);
    memcpy(map, nest, sizeof nest);
    CU_ASSERT_EQUAL(open_of(map, sizeof map), CHV_ERR_MALFORMED);
    memset(map, 0xc1, sizeof map);
    memcpy(map, nest, sizeof nest);
    CU_ASSERT_EQUAL(open_of(map, sizeof map), CHV_ERR_MALFORMED);
    CU_ASSERT_TRUE(heap_in_use() <= before + 65536);
}

/* Every value of every byte, and every cut, of good maps: no crash, and what is taken is a map that holds together. */
static void test_every_byte(void)
{
    static const char status_map[] = "\xa3\x64text\x65revok\x64"
                                     "code\x19\x01\x93\x61q\x82\xa1\x61r\x01\x18\x20";
    uint8_t map[sizeof status_map - 1], *exact = malloc(sizeof map);
    size_t taken = 0;
    if (exact == NULL)
        abort();
    CU_ASSERT_EQUAL(STATUS(status_map), CHV_OK);
    for (size_t i = 0; i < sizeof map; i++) {
        for (unsigned value = 0; value < 256; value++) {
            struct chv_status status;
            memcpy(exact, status_map, sizeof map);
            exact[i] = (uint8_t)value;
            if (chv_status_decode(exact, sizeof map, &status) == CHV_OK) {
                taken++;
                CU_ASSERT_TRUE(strlen(status.text) <= CHV_STATUS_TEXT_MAX);
                CU_ASSERT_TRUE(status.code >= 100 && status.code <= 599);
            }
        }
    }
    CU_ASSERT_TRUE(taken > 0);
    free(exact);
    for (size_t len = 0; len < sizeof map; len++) {
        exact = malloc(len + 1);
        if (exact == NULL)
            abort();
        memcpy(exact, status_map, len);
        exact = realloc(exact, len > 0 ? len : 1); /* ASan sees a read beyond the cut */
        if (exact == NULL)
            abort();
        CU_ASSERT_EQUAL(status_of(exact, len), CHV_ERR_MALFORMED);
        free(exact);
    }
}

TEST_MAIN("control maps", {"round trip", test_round_trip}, {"instance", test_instance},
          {"OPEN's options", test_open_options}, {"TICKET and REDIRECT", test_grant},
          {"TICKET and REDIRECT refuse", test_grant_refuses}, {"encode refuses", test_encode_refuses},
          {"decode takes", test_decode_takes}, {"decode refuses", test_decode_refuses}, {"too many", test_too_many},
          {"huge lengths and depth", test_huge_lengths_and_depth}, {"every byte", test_every_byte})
