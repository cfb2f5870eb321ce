/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/harness.h"

#include "base/encode.h"

#include <stdbool.h>
#include <string.h>

#define HEX_DIGITS "0123456789abcdefABCDEF"
#define BASE64_DIGITS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

typedef enum chv_err decoder(const char *in, size_t in_len, uint8_t *out, size_t *out_len);

static bool all_are(const uint8_t *buf, size_t len, uint8_t value)
{
    for (size_t i = 0; i < len; i++)
        if (buf[i] != value)
            return false;
    return true;
}

/* Refused: output wiped, length kept, nothing past the room touched. */
static void refuse(decoder *decode, const char *text, size_t text_len, size_t room, enum chv_err err)
{
    uint8_t out[64];
    size_t len = room;
    memset(out, 0xa5, sizeof out);
    CU_ASSERT_EQUAL(decode(text, text_len, out, &len), err);
    CU_ASSERT_EQUAL(len, room);
    CU_ASSERT_TRUE(all_are(out, room, 0));
    CU_ASSERT_TRUE(all_are(out + room, sizeof out - room, 0xa5));
}

/* Every byte value but the digits is refused at every place of a four-digit text. */
static void refuse_wrong_characters(decoder *decode, const char *digits)
{
    for (int c = 0; c < 256; c++) {
        bool digit = c != 0 && strchr(digits, c) != NULL;
        for (size_t at = 0; at < 4; at++) {
            char text[] = "0000";
            uint8_t out[4];
            size_t len = sizeof out;
            text[at] = (char)c;
            if (digit) {
                CU_ASSERT_EQUAL(decode(text, 4, out, &len), CHV_OK);
            } else {
                refuse(decode, text, 4, 4, CHV_ERR_MALFORMED);
            }
        }
    }
}

static void test_hex(void)
{
    uint8_t all[256];
    uint8_t back[256];
    char text[CHV_HEX_SIZE(256) + 1];
    size_t len = sizeof back;
    for (size_t i = 0; i < 256; i++)
        all[i] = (uint8_t)i;
    text[sizeof text - 1] = '#';
    chv_hex_encode(all, sizeof all, text);
    CU_ASSERT_EQUAL(strlen(text), 512);
    CU_ASSERT_EQUAL(text[sizeof text - 1], '#');
    CU_ASSERT_EQUAL(memcmp(text, "000102030405060708090a0b0c0d0e0f1011", 36), 0);
    CU_ASSERT_STRING_EQUAL(text + 508, "feff");
    CU_ASSERT_EQUAL(chv_hex_decode(text, 512, back, &len), CHV_OK);
    CU_ASSERT_EQUAL(len, 256);
    CU_ASSERT_EQUAL(memcmp(all, back, 256), 0);

    len = sizeof back;
    CU_ASSERT_EQUAL(chv_hex_decode("aBCdeF", 6, back, &len), CHV_OK);
    CU_ASSERT_EQUAL(len, 3);
    CU_ASSERT_EQUAL(memcmp(back, "\xab\xcd\xef", 3), 0);

    chv_hex_encode(NULL, 0, text);
    CU_ASSERT_STRING_EQUAL(text, "");
    len = 0;
    CU_ASSERT_EQUAL(chv_hex_decode("", 0, back, &len), CHV_OK);
    CU_ASSERT_EQUAL(len, 0);
}

static void test_hex_refused(void)
{
    refuse_wrong_characters(chv_hex_decode, HEX_DIGITS);
    refuse(chv_hex_decode, "0", 1, 8, CHV_ERR_MALFORMED);
    refuse(chv_hex_decode, "000", 3, 8, CHV_ERR_MALFORMED);
    refuse(chv_hex_decode, "0000", 4, 1, CHV_ERR_SPACE);
    refuse(chv_hex_decode, "00", 2, 0, CHV_ERR_SPACE);
    refuse(chv_hex_decode, "00\n", 3, 8, CHV_ERR_MALFORMED);
    refuse(chv_hex_decode, "0x00", 4, 8, CHV_ERR_MALFORMED);
}

/* RFC 4648, 10, without the padding. */
static void test_base64(void)
{
    static const char *const vectors[][2] = {
        {"", ""},           {"f", "Zg"},          {"fo", "Zm8"},          {"foo", "Zm9v"},
        {"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"}, {"\xfb\xff\xbf", "-_-_"},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        char text[CHV_BASE64_SIZE(6) + 1];
        uint8_t back[6];
        size_t len = strlen(vectors[i][0]);
        size_t room = len; /* exactly enough */
        memset(text, '#', sizeof text);
        chv_base64_encode((const uint8_t *)vectors[i][0], len, text);
        CU_ASSERT_STRING_EQUAL(text, vectors[i][1]);
        CU_ASSERT_EQUAL(strlen(text) + 1, CHV_BASE64_SIZE(len));
        CU_ASSERT_EQUAL(text[CHV_BASE64_SIZE(len)], '#');
        CU_ASSERT_EQUAL(chv_base64_decode(text, strlen(text), back, &room), CHV_OK);
        CU_ASSERT_EQUAL(room, len);
        CU_ASSERT_EQUAL(memcmp(back, vectors[i][0], len), 0);
    }
    /* all 64 digits, in order, both ways */
    uint8_t bytes[48];
    char text[CHV_BASE64_SIZE(48)];
    size_t len = sizeof bytes;
    CU_ASSERT_EQUAL(chv_base64_decode(BASE64_DIGITS, 64, bytes, &len), CHV_OK);
    CU_ASSERT_EQUAL(len, 48);
    CU_ASSERT_EQUAL(memcmp(bytes, "\x00\x10\x83\x10\x51\x87\x20\x92\x8b", 9), 0);
    chv_base64_encode(bytes, len, text);
    CU_ASSERT_STRING_EQUAL(text, BASE64_DIGITS);
}

static void test_base64_refused(void)
{
    refuse_wrong_characters(chv_base64_decode, BASE64_DIGITS);
    refuse(chv_base64_decode, "A", 1, 8, CHV_ERR_MALFORMED);
    refuse(chv_base64_decode, "AAAAA", 5, 8, CHV_ERR_MALFORMED);
    refuse(chv_base64_decode, "Zg==", 4, 8, CHV_ERR_MALFORMED);
    refuse(chv_base64_decode, "Zm8=", 4, 8, CHV_ERR_MALFORMED);
    refuse(chv_base64_decode, "Zm9v\n", 5, 8, CHV_ERR_MALFORMED);
    refuse(chv_base64_decode, "Zm9v", 4, 2, CHV_ERR_SPACE);
    refuse(chv_base64_decode, "Zg", 2, 0, CHV_ERR_SPACE);
    /* of the 64 last digits only those with unused bits 0 */
    for (size_t i = 0; i < 64; i++) {
        char two[2] = {'A', BASE64_DIGITS[i]};
        char three[3] = {'A', 'A', BASE64_DIGITS[i]};
        uint8_t out[4];
        size_t len = sizeof out;
        if (i % 16 == 0) {
            CU_ASSERT_EQUAL(chv_base64_decode(two, 2, out, &len), CHV_OK);
            CU_ASSERT_EQUAL(len, 1);
        } else {
            refuse(chv_base64_decode, two, 2, 4, CHV_ERR_MALFORMED);
        }
        len = sizeof out;
        if (i % 4 == 0) {
            CU_ASSERT_EQUAL(chv_base64_decode(three, 3, out, &len), CHV_OK);
            CU_ASSERT_EQUAL(len, 2);
        } else {
            refuse(chv_base64_decode, three, 3, 4, CHV_ERR_MALFORMED);
        }
    }
}

TEST_MAIN("encodings", {"hex", test_hex}, {"hex refused", test_hex_refused}, {"base64", test_base64},
          {"base64 refused", test_base64_refused})
