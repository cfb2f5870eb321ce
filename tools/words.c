/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/words.h"

#include <fnmatch.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* What a pattern does not take as it is. */
static bool is_magic(char c)
{
    return c == '*' || c == '?' || c == '[' || c == ']' || c == '\\';
}

/* --- splitting ----------------------------------------------------------------------------------------------------- */

/* Reads a line character by character. */
struct lexer {
    const char *at, *end;
    char quote;
    bool in_word, escape;
};

enum step {
    STEP_END,
    STEP_BLANK,  /* between words */
    STEP_QUOTE,  /* belongs to the word and is none of its characters */
    STEP_PLAIN,  /* a character */
    STEP_LITERAL /* a character that stands for itself */
};

/* Inside of "..." a \ is one unless one of these follows. */
static bool quotes_next(const struct lexer *l)
{
    return l->quote == 0 || (l->quote == '"' && l->at < l->end && (*l->at == '"' || *l->at == '\\'));
}

static enum step next(struct lexer *l, char *c)
{
    if (l->at == l->end || (!l->in_word && *l->at == '#'))
        return STEP_END;
    *c = *l->at++;
    if (l->escape) {
        l->escape = false;
        return STEP_LITERAL;
    }
    if (l->quote == 0 && is_blank(*c)) {
        l->in_word = false;
        return STEP_BLANK;
    }
    l->in_word = true;
    if (*c == '\\' && l->quote != '\'' && quotes_next(l)) {
        l->escape = true;
        return STEP_QUOTE;
    }
    if (l->quote != 0 && *c == l->quote) {
        l->quote = 0;
        return STEP_QUOTE;
    }
    if (l->quote == 0 && (*c == '"' || *c == '\'')) {
        l->quote = *c;
        return STEP_QUOTE;
    }
    return l->quote != 0 ? STEP_LITERAL : STEP_PLAIN;
}

/* Into text and words, which are large enough. */
static void split(struct lexer *l, struct chv_words *w)
{
    char c = 0, *out = w->text;
    bool open = false;
    for (enum step step = next(l, &c); step != STEP_END; step = next(l, &c)) {
        if (step == STEP_BLANK) {
            if (open)
                *out++ = '\0';
            open = false;
            continue;
        }
        if (!open)
            w->words[w->count++] = out;
        open = true;
        if (step == STEP_LITERAL && is_magic(c))
            *out++ = '\\';
        if (step != STEP_QUOTE)
            *out++ = c;
    }
    *out = '\0';
}

enum chv_err chv_words_split(const char *line, struct chv_words *words, struct chv_why *why)
{
    const size_t len = strlen(line);
    struct lexer lexer = {.at = line, .end = line + len};
    /* Every word has a character of the line and a blank or the end behind it; each character may get a \. */
    struct chv_words w = {.text = malloc(2 * len + 2), .words = calloc(len / 2 + 2, sizeof *w.words)};
    if (w.text == NULL || w.words == NULL) {
        chv_words_free(&w);
        return chv_fail(why, CHV_ERR_MEMORY, "no memory for a line");
    }
    split(&lexer, &w);
    enum chv_err err = CHV_OK;
    if (lexer.quote != 0)
        err = chv_fail(why, CHV_ERR_MALFORMED, "the quote %c does not end", lexer.quote);
    else if (lexer.escape)
        err = chv_fail(why, CHV_ERR_MALFORMED, "there is nothing behind the \\ at the end");
    if (err == CHV_OK)
        *words = w;
    else
        chv_words_free(&w);
    return err;
}

void chv_words_free(struct chv_words *words)
{
    free(words->text);
    free(words->words);
    *words = (struct chv_words){.text = NULL};
}

enum chv_err chv_words_last(const char *line, size_t len, struct chv_words_last *last, char *literal, size_t size)
{
    struct lexer lexer = {.at = line, .end = line + len};
    struct chv_words_last found = {.start = len};
    bool open = false;
    size_t used = 0;
    char c = 0;
    for (enum step step = next(&lexer, &c); step != STEP_END; step = next(&lexer, &c)) {
        if (step == STEP_BLANK) {
            found.index += open;
            found.start = len;
            open = false;
            used = 0;
            continue;
        }
        if (!open)
            found.start = (size_t)(lexer.at - line) - 1;
        open = true;
        if (step == STEP_QUOTE)
            continue;
        if (used + 1 >= size)
            return CHV_ERR_SPACE;
        literal[used++] = c;
    }
    literal[used] = '\0';
    found.quote = lexer.quote;
    found.escape = lexer.escape;
    *last = found;
    return CHV_OK;
}

enum chv_err chv_words_quote(const char *text, char quote, char *out, size_t size)
{
    size_t used = 0;
    for (const char *c = text; *c != '\0'; c++) {
        const bool marked = quote == 0
                                ? is_magic(*c) || is_blank(*c) || *c == '"' || *c == '\'' || (*c == '#' && c == text)
                                : quote == '"' && (*c == '"' || *c == '\\');
        if (used + 6 > size) /* five characters at most, and the end */
            return CHV_ERR_SPACE;
        if (quote == '\'' && *c == '\'') { /* out of it, the character, and in again */
            memcpy(out + used, "'\\''", 4);
            used += 4;
            continue;
        }
        if (marked)
            out[used++] = '\\';
        out[used++] = *c;
    }
    if (used >= size)
        return CHV_ERR_SPACE;
    out[used] = '\0';
    return CHV_OK;
}

/* --- patterns ------------------------------------------------------------------------------------------------------ */

bool chv_pattern_is(const char *pattern)
{
    for (const char *c = pattern; *c != '\0'; c++) {
        if (*c == '\\' && c[1] != '\0')
            c++;
        else if (*c == '*' || *c == '?' || *c == '[')
            return true;
    }
    return false;
}

void chv_pattern_escape(const char *text, char *out, size_t size)
{
    size_t used = 0;
    for (const char *c = text; *c != '\0' && used + 3 <= size; c++) {
        if (is_magic(*c))
            out[used++] = '\\';
        out[used++] = *c;
    }
    out[used] = '\0';
}

void chv_pattern_literal(char *pattern)
{
    char *out = pattern;
    for (const char *c = pattern; *c != '\0'; c++) {
        if (*c == '\\' && c[1] != '\0')
            c++;
        *out++ = *c;
    }
    *out = '\0';
}

bool chv_pattern_match(const char *pattern, const char *name)
{
    static locale_t utf8;
    if (utf8 == (locale_t)0)
        utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    const locale_t before = utf8 != (locale_t)0 ? uselocale(utf8) : (locale_t)0;
    const bool matches = fnmatch(pattern, name, FNM_PERIOD) == 0;
    if (before != (locale_t)0)
        (void)uselocale(before);
    return matches;
}
