/* SPDX-License-Identifier: Apache-2.0 */
/* chaveiro chat: each line is a message, each answer is shown before the next is sent. */
#include "tools/chaveiro.h"

#include <editline/readline.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "services/input.h"

enum { CHAT_READ = 65536, CHAT_LINE_MAX = 16 << 20, CHAT_SIGNALS = 3 };

struct chat_state {
    bool terminal;
    struct chaveiro_link *link;
    struct chv_input *input;
    struct chaveiro_reply reply;
    bool sending, answering; /* a message is on its way; its answer is due */
    bool ended;              /* no more lines */
    /* standard input that is no terminal */
    char *buf;
    size_t len, room;
    /* the terminal */
    bool prompting;
    bool have_line;
    char *line; /* NULL with have_line: end of file */
    uv_signal_t signals[CHAT_SIGNALS];
};

/* editline's callback has no argument of ours. One chat per process. */
static struct chat_state *chat_prompted;

static void chat_next(struct chat_state *chat);

static void chat_send(struct chat_state *chat, const char *text, size_t len)
{
    chat->sending = chat->answering = true;
    chv_input_pause(chat->input);
    chaveiro_due(chat->link, true);
    enum chv_err err = chv_message_send(chat->link->message, text, len);
    if (err != CHV_OK)
        chaveiro_fail_why(chat->link, err, NULL);
}

/* --- lines from a pipe or file -------------------------------------------------------------------------------------
 */

/* Sends the next whole line, or at the end of file what is left; false if there is none yet. */
static bool chat_pipe_line(struct chat_state *chat)
{
    char *newline = chat->len > 0 ? memchr(chat->buf, '\n', chat->len) : NULL;
    if (newline == NULL && (!chat->ended || chat->len == 0))
        return false;
    size_t len = newline != NULL ? (size_t)(newline - chat->buf) : chat->len;
    size_t used = newline != NULL ? len + 1 : len;
    chat_send(chat, chat->buf, len);
    memmove(chat->buf, chat->buf + used, chat->len - used);
    chat->len -= used;
    return true;
}

static bool chat_pipe_room(struct chat_state *chat)
{
    if (chat->room - chat->len >= CHAT_READ)
        return true;
    if (chat->len > CHAT_LINE_MAX) {
        chaveiro_fail(chat->link, EX_DATAERR, "a line is longer than %d bytes: use 'send -'", CHAT_LINE_MAX);
        return false;
    }
    size_t room = chat->room * 2 + CHAT_READ;
    char *buf = realloc(chat->buf, room);
    if (buf == NULL) {
        chaveiro_fail_why(chat->link, CHV_ERR_MEMORY, NULL);
        return false;
    }
    chat->buf = buf;
    chat->room = room;
    return true;
}

static void chat_pipe_read(struct chat_state *chat)
{
    if (!chat_pipe_room(chat))
        return;
    ssize_t n = read(STDIN_FILENO, chat->buf + chat->len, chat->room - chat->len);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n < 0) {
        chaveiro_fail(chat->link, EX_IOERR, "standard input: %s", strerror(errno));
        return;
    }
    chat->ended = n == 0;
    chat->len += (size_t)n;
    chat_next(chat);
}

/* --- lines from a terminal -----------------------------------------------------------------------------------------
 */

static void chat_on_line(char *line)
{
    struct chat_state *chat = chat_prompted;
    chat->have_line = true;
    chat->line = line;
}

static void chat_prompt(struct chat_state *chat, bool on)
{
    if (on == chat->prompting)
        return;
    chat->prompting = on;
    if (on)
        rl_callback_handler_install("> ", chat_on_line);
    else
        rl_callback_handler_remove();
}

static void chat_terminal_read(struct chat_state *chat)
{
    chat->have_line = false;
    rl_callback_read_char();
    if (!chat->have_line)
        return;
    chat_prompt(chat, false); /* the terminal is its usual self while we wait */
    char *line = chat->line;
    chat->line = NULL;
    if (line == NULL) {
        (void)putchar('\n');
        chat->ended = true;
    } else if (line[0] != 0) {
        (void)add_history(line); /* in memory only */
        chat_send(chat, line, strlen(line));
    }
    free(line);
    chat_next(chat);
}

static void chat_on_signal(uv_signal_t *handle, int number)
{
    struct chat_state *chat = handle->data;
    chat_prompt(chat, false);
    (void)putchar('\n');
    chaveiro_interrupt(chat->link, number);
}

static void chat_terminal_open(struct chat_state *chat)
{
    static const int numbers[CHAT_SIGNALS] = {SIGINT, SIGTERM, SIGHUP};
    chat_prompted = chat;
    for (size_t i = 0; i < CHAT_SIGNALS; i++) {
        (void)uv_signal_init(&chat->link->loop.uv, &chat->signals[i]);
        chat->signals[i].data = chat;
        (void)uv_signal_start(&chat->signals[i], chat_on_signal, numbers[i]);
    }
    printf("%s, client '%s': a line is a message, Ctrl-D ends\n", chat->link->key.server, chat->link->key.parsed.id);
}

static void chat_terminal_close(struct chat_state *chat)
{
    chat_prompt(chat, false);
    for (size_t i = 0; i < CHAT_SIGNALS; i++)
        uv_close((uv_handle_t *)&chat->signals[i], NULL);
}

/* --- both ----------------------------------------------------------------------------------------------------------
 */

/* Nothing is on its way: the next line, if there is one already, else read on. */
static void chat_next(struct chat_state *chat)
{
    if (chat->sending || chat->answering || chat->link->failed)
        return;
    if (!chat->terminal && chat_pipe_line(chat))
        return;
    if (chat->ended) {
        chv_input_pause(chat->input);
        chaveiro_finish(chat->link);
        return;
    }
    if (chat->terminal)
        chat_prompt(chat, true);
    chv_input_resume(chat->input);
}

static void chat_on_input(void *arg)
{
    struct chat_state *chat = arg;
    if (chat->terminal)
        chat_terminal_read(chat);
    else
        chat_pipe_read(chat);
}

static void chat_ready(struct chaveiro_link *link)
{
    struct chat_state *chat = link->state;
    struct chv_why why = {""};
    chat->link = link;
    enum chv_err err = chv_input_open(&link->loop, STDIN_FILENO, chat_on_input, chat, &chat->input, &why);
    if (err != CHV_OK) {
        chaveiro_fail_why(link, err, &why);
        return;
    }
    if (chat->terminal)
        chat_terminal_open(chat);
    chat_next(chat);
}

static void chat_sent(struct chaveiro_link *link)
{
    struct chat_state *chat = link->state;
    chat->sending = false;
    chat_next(chat);
}

static void chat_reply(struct chaveiro_link *link, const uint8_t *data, size_t len)
{
    struct chat_state *chat = link->state;
    chaveiro_reply_add(&chat->reply, link, data, len);
}

static void chat_reply_end(struct chaveiro_link *link)
{
    struct chat_state *chat = link->state;
    chaveiro_reply_finish(&chat->reply, link);
    chat->answering = false;
    chat_next(chat);
}

static void chat_over(struct chaveiro_link *link)
{
    struct chat_state *chat = link->state;
    if (chat->input == NULL)
        return; /* the server never let us in */
    if (chat->terminal) {
        bool waiting = chat->prompting;
        chat_terminal_close(chat);
        if (waiting)
            (void)putchar('\n');
    }
    chv_input_close(chat->input);
    chat->input = NULL;
}

static const struct chaveiro_job chat_job = {
    .ready = chat_ready, .sent = chat_sent, .reply = chat_reply, .reply_end = chat_reply_end, .over = chat_over};

int chaveiro_chat(const struct chv_cli_args *args)
{
    struct chat_state chat = {.terminal = isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1};
    chaveiro_reply_init(&chat.reply, args);
    int code = chaveiro_run(args, &chat_job, &chat);
    chaveiro_reply_free(&chat.reply);
    free(chat.buf);
    return code;
}
