/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/harness.h"
#include "tools/words.h"

#include <stdio.h>
#include <string.h>

enum { MOST = 8 };

/* The line is these words, up to the first NULL. */
static void splits(const char *line, const char *const wanted[MOST])
{
    struct chv_words words;
    struct chv_why why = {""};
    size_t n = 0;
    CU_ASSERT_EQUAL_FATAL(chv_words_split(line, &words, &why), CHV_OK);
    for (; n < MOST && wanted[n] != NULL && n < words.count; n++)
        CU_ASSERT_STRING_EQUAL(words.words[n], wanted[n]);
    CU_ASSERT_EQUAL(words.count, n);
    CU_ASSERT(n == MOST || wanted[n] == NULL);
    chv_words_free(&words);
    CU_ASSERT_PTR_NULL(words.words);
}

#define SPLITS(line, ...) splits(line, (const char *const[MOST]){__VA_ARGS__})

static void fails(const char *line, const char *reason)
{
    struct chv_words words = {.count = 7};
    struct chv_why why = {""};
    CU_ASSERT_EQUAL(chv_words_split(line, &words, &why), CHV_ERR_MALFORMED);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, reason));
    CU_ASSERT_EQUAL(words.count, 7);
}

static void test_words(void)
{
    SPLITS("", NULL);
    SPLITS(" \t ", NULL);
    SPLITS("one", "one");
    SPLITS("  get  a\tb ", "get", "a", "b");
    SPLITS("get # a comment", "get");
    SPLITS("# all of it", NULL);
    SPLITS("a#b '#c' \\#d", "a#b", "#c", "#d");
    SPLITS("\xc3\xa9 \xff", "\xc3\xa9", "\xff");
}

static void test_quotes(void)
{
    SPLITS("'a b' \"c d\" e\\ f", "a b", "c d", "e f");
    SPLITS("'' \"\" x", "", "", "x");
    SPLITS("a'b c'd\"e f\"", "ab cde f");
    SPLITS("'a\"b' \"a'b\"", "a\"b", "a'b");
    SPLITS("\"a\\\"b\\\\c\"", "a\"b\\\\c");
    SPLITS("\"a\\b\" 'a\\'", "a\\\\b", "a\\\\");
    SPLITS("\\'a \\\"", "'a", "\"");
    fails("'a b", "quote '");
    fails("a \"b", "quote \"");
    fails("a\\", "nothing behind");
}

static void test_patterns_of_words(void)
{
    SPLITS("*.log a?[bc]", "*.log", "a?[bc]");
    SPLITS("'*.log' \"a?\" \\[b\\]", "\\*.log", "a\\?", "\\[b\\]");
    SPLITS("'a'*'b*'", "a*b\\*");
    SPLITS("a\\\\b", "a\\\\b");
    CU_ASSERT_TRUE(chv_pattern_is("a*"));
    CU_ASSERT_TRUE(chv_pattern_is("\\\\*"));
    CU_ASSERT_TRUE(chv_pattern_is("["));
    CU_ASSERT_FALSE(chv_pattern_is("a\\*b\\?\\["));
    CU_ASSERT_FALSE(chv_pattern_is("a]"));
    CU_ASSERT_FALSE(chv_pattern_is(""));
    CU_ASSERT_FALSE(chv_pattern_is("a\\"));
}

static void literal(const char *pattern, const char *wanted)
{
    char text[64];
    (void)snprintf(text, sizeof text, "%s", pattern);
    chv_pattern_literal(text);
    CU_ASSERT_STRING_EQUAL(text, wanted);
}

static void test_literals(void)
{
    char out[16];
    literal("", "");
    literal("a*b", "a*b");
    literal("a\\*b\\\\", "a*b\\");
    literal("a\\", "a\\");
    chv_pattern_escape("a*?[]\\b", out, sizeof out);
    CU_ASSERT_STRING_EQUAL(out, "a\\*\\?\\[\\]\\\\b");
    literal(out, "a*?[]\\b");
    chv_pattern_escape("****", out, 6); /* cut, between characters */
    CU_ASSERT_STRING_EQUAL(out, "\\*\\*");
}

static void test_matching(void)
{
    CU_ASSERT_TRUE(chv_pattern_match("*", "abc"));
    CU_ASSERT_FALSE(chv_pattern_match("*", ".abc"));
    CU_ASSERT_FALSE(chv_pattern_match("?abc", ".abc"));
    CU_ASSERT_FALSE(chv_pattern_match("[.]abc", ".abc"));
    CU_ASSERT_TRUE(chv_pattern_match(".*", ".abc"));
    CU_ASSERT_TRUE(chv_pattern_match("[a-c]?[!x]", "bzz"));
    CU_ASSERT_FALSE(chv_pattern_match("[a-c]?[!x]", "bzx"));
    CU_ASSERT_TRUE(chv_pattern_match("[]a]", "]"));
    CU_ASSERT_TRUE(chv_pattern_match("a\\*", "a*"));
    CU_ASSERT_FALSE(chv_pattern_match("a\\*", "ab"));
    CU_ASSERT_FALSE(chv_pattern_match("[ab", "a"));
    CU_ASSERT_TRUE(chv_pattern_match("[ab", "[ab"));
    CU_ASSERT_FALSE(chv_pattern_match("", "a"));
    /* One character, whatever the locale of the program. */
    CU_ASSERT_TRUE(chv_pattern_match("?", "\xc3\xa9"));
    CU_ASSERT_TRUE(chv_pattern_match("[\xc3\xa8-\xc3\xaa]", "\xc3\xa9"));
    CU_ASSERT_FALSE(chv_pattern_match("???", "\xc3\xa9"));
}

static void last(const char *line, size_t index, size_t start, char quote, const char *literal_word)
{
    struct chv_words_last found;
    char word[64];
    CU_ASSERT_EQUAL_FATAL(chv_words_last(line, strlen(line), &found, word, sizeof word), CHV_OK);
    CU_ASSERT_EQUAL(found.index, index);
    CU_ASSERT_EQUAL(found.start, start);
    CU_ASSERT_EQUAL(found.quote, quote);
    CU_ASSERT_STRING_EQUAL(word, literal_word);
}

static void test_last_word(void)
{
    struct chv_words_last found;
    char word[4];
    last("", 0, 0, 0, "");
    last("ge", 0, 0, 0, "ge");
    last("get ", 1, 4, 0, "");
    last("get a b", 2, 6, 0, "b");
    last("get 'a b", 1, 4, '\'', "a b");
    last("get \"a\\\"b", 1, 4, '"', "a\"b");
    last("get a\\ b", 1, 4, 0, "a b");
    last("get '", 1, 4, '\'', "");
    CU_ASSERT_EQUAL(chv_words_last("get a\\", 6, &found, word, sizeof word), CHV_OK);
    CU_ASSERT_TRUE(found.escape);
    CU_ASSERT_EQUAL(chv_words_last("abcd", 4, &found, word, sizeof word), CHV_ERR_SPACE);
    CU_ASSERT_EQUAL(chv_words_last("abcd", 3, &found, word, sizeof word), CHV_OK);
}

/* What is quoted is read as it was. */
static void test_quoting(void)
{
    static const char *const names[] = {"plain", "a b",         "it's", "say \"x\"", "a*b?[c]\\",
                                        "#x",    "\xc3\xa9 \t", "'",    "a'"};
    static const char quotes[] = {0, '\'', '"'};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        for (size_t q = 0; q < sizeof quotes; q++) {
            char quoted[128], line[160];
            struct chv_words words;
            const char mark[2] = {quotes[q], '\0'};
            CU_ASSERT_EQUAL_FATAL(chv_words_quote(names[i], quotes[q], quoted, sizeof quoted), CHV_OK);
            (void)snprintf(line, sizeof line, "%s%s%s", mark, quoted, mark);
            CU_ASSERT_EQUAL_FATAL(chv_words_split(line, &words, NULL), CHV_OK);
            CU_ASSERT_EQUAL_FATAL(words.count, 1);
            chv_pattern_literal(words.words[0]);
            CU_ASSERT_STRING_EQUAL(words.words[0], names[i]);
            chv_words_free(&words);
        }
    }
    char small[6];
    CU_ASSERT_EQUAL(chv_words_quote("abcdefgh", 0, small, sizeof small), CHV_ERR_SPACE);
    CU_ASSERT_EQUAL(chv_words_quote("", 0, small, 1), CHV_OK);
    CU_ASSERT_EQUAL(chv_words_quote("", 0, small, 0), CHV_ERR_SPACE);
}

TEST_MAIN("words", {"words", test_words}, {"quotes", test_quotes}, {"patterns of words", test_patterns_of_words},
          {"literals", test_literals}, {"matching", test_matching}, {"last word", test_last_word},
          {"quoting", test_quoting})
