/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines of commands, as `chaveiro shell` and batch files have them, and the patterns in them. A pattern is what
 * fnmatch(3) takes, one name at a time: '*', '?', '[...]', and '\' in front of a character that is to stand for itself.
 */
#ifndef CHV_TOOLS_WORDS_H
#define CHV_TOOLS_WORDS_H

#include <chaveiro/error.h>

#include <stdbool.h>
#include <stddef.h>

/* Of one line; each word is a pattern. */
struct chv_words {
    char *text; /* all of them */
    char **words;
    size_t count;
};

/*
 * Words with blanks between them. In '...' every character stands for itself, in "..." all but \" and \\, elsewhere the
 * one behind a \; what was quoted so and means something in a pattern comes out with a \ in front. '#' at the beginning
 * of a word ends the line. CHV_ERR_MALFORMED (a quote that does not end), CHV_ERR_MEMORY; then there is nothing to free.
 */
enum chv_err chv_words_split(const char *line, struct chv_words *words, struct chv_why *why) CHV_MUST_CHECK;
void chv_words_free(struct chv_words *words);

/* The last word of an unfinished line, for completion. */
struct chv_words_last {
    size_t index; /* which word it is */
    size_t start; /* offset of what it begins with, a quote too */
    char quote;   /* the quote that is open at the end, 0: none */
    bool escape;  /* a \ is the last character */
};

/* literal: NUL-terminated, what the word stands for so far. CHV_ERR_SPACE: it does not fit. */
enum chv_err chv_words_last(const char *line, size_t len, struct chv_words_last *last, char *literal,
                            size_t size) CHV_MUST_CHECK;
/* `text` as it is typed to stand for itself; inside of an open `quote`, else (0) with backslashes. CHV_ERR_SPACE. */
enum chv_err chv_words_quote(const char *text, char quote, char *out, size_t size) CHV_MUST_CHECK;

/* Whether it may stand for several names. */
bool chv_pattern_is(const char *pattern);
/* A pattern for this text alone; twice its length suffices, and it is cut otherwise. */
void chv_pattern_escape(const char *text, char *out, size_t size);
/* In place: what a pattern stands for whose '*', '?' and '[' stand for themselves. */
void chv_pattern_literal(char *pattern);
/* One name. A dot at its beginning is only matched by a dot. UTF-8, whatever the locale. */
bool chv_pattern_match(const char *pattern, const char *name);

#endif
