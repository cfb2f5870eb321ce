/* SPDX-License-Identifier: Apache-2.0 */
#include "core/pattern.h"

#include <string.h>

/* As the specification writes them; the first message is always the initiator's. */
static const struct base {
    const char *name;
    const char *text;
} bases[] = {
    /* 7.4, one-way */
    {"N", "<- s ... -> e, es"},
    {"K", "-> s <- s ... -> e, es, ss"},
    {"X", "<- s ... -> e, es, s, ss"},
    /* 7.5, interactive */
    {"NN", "-> e <- e, ee"},
    {"NK", "<- s ... -> e, es <- e, ee"},
    {"NX", "-> e <- e, ee, s, es"},
    {"KN", "-> s ... -> e <- e, ee, se"},
    {"KK", "-> s <- s ... -> e, es, ss <- e, ee, se"},
    {"KX", "-> s ... -> e <- e, ee, se, s, es"},
    {"XN", "-> e <- e, ee -> s, se"},
    {"XK", "<- s ... -> e, es <- e, ee -> s, se"},
    {"XX", "-> e <- e, ee, s, es -> s, se"},
    {"IN", "-> e, s <- e, ee, se"},
    {"IK", "<- s ... -> e, es, s, ss <- e, ee, se"},
    {"IX", "-> e, s <- e, ee, se, s, es"},
    /* 18.1, deferred */
    {"NK1", "<- s ... -> e <- e, ee, es"},
    {"NX1", "-> e <- e, ee, s -> es"},
    {"X1N", "-> e <- e, ee -> s <- se"},
    {"X1K", "<- s ... -> e, es <- e, ee -> s <- se"},
    {"XK1", "<- s ... -> e <- e, ee, es -> s, se"},
    {"X1K1", "<- s ... -> e <- e, ee, es -> s <- se"},
    {"X1X", "-> e <- e, ee, s, es -> s <- se"},
    {"XX1", "-> e <- e, ee, s -> es, s, se"},
    {"X1X1", "-> e <- e, ee, s -> es, s <- se"},
    {"K1N", "-> s ... -> e <- e, ee -> se"},
    {"K1K", "-> s <- s ... -> e, es <- e, ee -> se"},
    {"KK1", "-> s <- s ... -> e <- e, ee, se, es"},
    {"K1K1", "-> s <- s ... -> e <- e, ee, es -> se"},
    {"K1X", "-> s ... -> e <- e, ee, s, es -> se"},
    {"KX1", "-> s ... -> e <- e, ee, se, s -> es"},
    {"K1X1", "-> s ... -> e <- e, ee, s -> se, es"},
    {"I1N", "-> e, s <- e, ee -> se"},
    {"I1K", "<- s ... -> e, es, s <- e, ee -> se"},
    {"IK1", "<- s ... -> e, s <- e, ee, se, es"},
    {"I1K1", "<- s ... -> e, s <- e, ee, es -> se"},
    {"I1X", "-> e, s <- e, ee, s, es -> se"},
    {"IX1", "-> e, s <- e, ee, se, s -> es"},
    {"I1X1", "-> e, s <- e, ee, s -> se, es"},
};

enum { BASE_COUNT = sizeof bases / sizeof bases[0], BASE_ONE_WAY = 3 };

const char *chv_noise_pattern_name(size_t index)
{
    return index < BASE_COUNT ? bases[index].name : NULL;
}

static enum chv_noise_token dh_token(const char *word)
{
    if (word[0] == 'e')
        return word[1] == 'e' ? CHV_TOKEN_EE : CHV_TOKEN_ES;
    return word[1] == 'e' ? CHV_TOKEN_SE : CHV_TOKEN_SS;
}

static enum chv_noise_token token_of(const char *word, size_t len)
{
    if (len == 2)
        return dh_token(word);
    return word[0] == 'e' ? CHV_TOKEN_E : CHV_TOKEN_S;
}

static void read_base(const struct base *base, struct chv_noise_pattern *p)
{
    static const char separators[] = ", ";
    bool pre = strstr(base->text, "...") != NULL;
    bool initiator = true;
    size_t count = 0;

    for (const char *word = base->text; *word != '\0'; word += strspn(word, separators)) {
        const size_t len = strcspn(word, separators);

        if (word[0] == '.') {
            pre = false;
        } else if (word[0] == '-' || word[0] == '<') {
            initiator = word[0] == '-';
            count = 0;
            if (!pre)
                p->messages++;
        } else if (pre) {
            *(initiator ? &p->pre_initiator : &p->pre_responder) = true;
        } else {
            p->tokens[p->messages - 1][count++] = (uint8_t)token_of(word, len);
        }
        word += len;
    }
    p->one_way = base - bases < BASE_ONE_WAY;
}

/* 9.4: psk0 stands before the first message's tokens, pskN at the end of message N (counted from 1). */
static void add_psk(struct chv_noise_pattern *p, unsigned position)
{
    uint8_t *tokens = p->tokens[position == 0 ? 0 : position - 1];

    if (position == 0)
        memmove(tokens + 1, tokens, CHV_PATTERN_TOKENS_MAX - 1);
    else
        while (*tokens != CHV_TOKEN_END)
            tokens++;
    *tokens = CHV_TOKEN_PSK;
    p->psk = true;
}

/* "psk0+psk2", ascending: modifiers whose order does not matter have one spelling (section 8). */
static enum chv_err add_modifiers(struct chv_noise_pattern *p, const char *text)
{
    unsigned lowest = 0;

    for (;;) {
        if (strncmp(text, "psk", 3) != 0 || text[3] < '0' || text[3] > '9')
            return CHV_ERR_NOT_FOUND;
        const unsigned position = (unsigned)(text[3] - '0');
        if (position < lowest || position > p->messages)
            return CHV_ERR_NOT_FOUND;
        add_psk(p, position);
        lowest = position + 1;
        text += 4;
        if (*text == '\0')
            return CHV_OK;
        if (*text++ != '+')
            return CHV_ERR_NOT_FOUND;
    }
}

enum chv_err chv_noise_pattern_find(const char *name, struct chv_noise_pattern *pattern)
{
    const size_t base_len = strcspn(name, "p");
    const size_t len = strlen(name);
    struct chv_noise_pattern p = {0};

    if (len >= sizeof p.name)
        return CHV_ERR_NOT_FOUND;
    for (size_t i = 0; i < BASE_COUNT; i++) {
        if (strlen(bases[i].name) != base_len || memcmp(bases[i].name, name, base_len) != 0)
            continue;
        memcpy(p.name, name, len);
        read_base(&bases[i], &p);
        if (len > base_len && add_modifiers(&p, name + base_len) != CHV_OK)
            return CHV_ERR_NOT_FOUND;
        *pattern = p;
        return CHV_OK;
    }
    return CHV_ERR_NOT_FOUND;
}
