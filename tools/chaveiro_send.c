/* SPDX-License-Identifier: Apache-2.0 */
/* chaveiro send: one message, one answer. */
#include "tools/chaveiro.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

struct send_state {
    const struct chv_cli_args *args;
    char *text; /* NULL: standard input */
    struct chaveiro_reply reply;
};

static void send_ready(struct chaveiro_link *link)
{
    struct send_state *state = link->state;
    struct chv_why why = {""};
    enum chv_err err = state->text != NULL ? chv_message_send(link->message, state->text, strlen(state->text))
                                           : chv_message_send_fd(link->message, STDIN_FILENO, &why);
    if (err != CHV_OK)
        chaveiro_fail_why(link, err, &why);
}

static void send_sent(struct chaveiro_link *link)
{
    chaveiro_due(link, true);
}

static void send_reply(struct chaveiro_link *link, const uint8_t *data, size_t len)
{
    struct send_state *state = link->state;
    chaveiro_reply_add(&state->reply, link, data, len);
}

static void send_reply_end(struct chaveiro_link *link)
{
    struct send_state *state = link->state;
    chaveiro_reply_finish(&state->reply, link);
    chaveiro_finish(link);
}

static const struct chaveiro_job send_job = {
    .ready = send_ready, .sent = send_sent, .reply = send_reply, .reply_end = send_reply_end};

/* The words with a space between them; NULL without memory. */
static char *send_join(char **words, size_t count)
{
    size_t len = 0;
    for (size_t i = 0; i < count; i++)
        len += strlen(words[i]) + 1;
    char *text = malloc(len + 1);
    char *end = text;
    for (size_t i = 0; text != NULL && i < count; i++) {
        size_t n = strlen(words[i]);
        if (i > 0)
            *end++ = ' ';
        memcpy(end, words[i], n);
        end += n;
    }
    if (text != NULL)
        *end = 0;
    return text;
}

int chaveiro_send(const struct chv_cli_args *args)
{
    struct send_state state = {.args = args};
    bool input = args->operand_count == 1 && strcmp(args->operands[0], "-") == 0;
    if (args->operand_count == 0) {
        if (isatty(STDIN_FILENO) == 1)
            return chv_cli_fail(EX_USAGE, "send what? Give TEXT, or '-' for standard input");
        input = true;
    }
    if (!input) {
        state.text = send_join(args->operands, args->operand_count);
        if (state.text == NULL)
            return chv_cli_why(CHV_ERR_MEMORY, NULL);
    }
    chaveiro_reply_init(&state.reply, args);
    int code = chaveiro_run(args, &send_job, &state);
    chaveiro_reply_free(&state.reply);
    free(state.text);
    return code;
}
