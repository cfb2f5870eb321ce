/* SPDX-License-Identifier: Apache-2.0 */
/* How the supervisor of a data side looks after its ticket keys. */
#include "net/supervisor_internal.h"
#include "tests/harness.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEX "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

static struct supervisor *s;
static struct chv_server_config *config;
static struct chv_why why;
static char folder[32], file[64];
static int pipe_fd[2], saved = -1;

static void capture(void)
{
    CU_ASSERT_EQUAL_FATAL(pipe(pipe_fd), 0);
    saved = dup(STDERR_FILENO);
    CU_ASSERT_FATAL(saved >= 0);
    CU_ASSERT_FATAL(dup2(pipe_fd[1], STDERR_FILENO) >= 0);
    (void)close(pipe_fd[1]);
}

static void captured(const char *wanted)
{
    char text[4096];
    size_t len = 0;
    (void)dup2(saved, STDERR_FILENO);
    (void)close(saved);
    for (ssize_t n; len + 1 < sizeof text && (n = read(pipe_fd[0], text + len, sizeof text - 1 - len)) > 0;)
        len += (size_t)n;
    text[len] = '\0';
    (void)close(pipe_fd[0]);
    if (wanted == NULL ? len > 0 : strstr(text, wanted) == NULL) {
        CU_FAIL("log");
        fprintf(stderr, "wanted '%s', got '%s'\n", wanted != NULL ? wanted : "", text);
    }
}

/* A file with keys for so many days from `first` on, counted from today. */
static void write_keys(int first, int days)
{
    FILE *f = fopen(file, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    CU_ASSERT_EQUAL(fchmod(fileno(f), 0600), 0);
    fprintf(f, "chaveiro-ticket-keys 1\naudience gate/data\n");
    for (int i = 0; i < days; i++)
        fprintf(f, "key 1 %" PRIu64 " %s\n",
                (uint64_t)((int64_t)(chv_clock_time() / CHV_TICKET_PERIOD_SECONDS) + first + i), HEX);
    fclose(f);
}

static void begin(void)
{
    s = calloc(1, sizeof *s);
    config = calloc(1, sizeof *config);
    CU_ASSERT_FATAL(s != NULL && config != NULL);
    snprintf(folder, sizeof folder, "/tmp/chv-test-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/t.keys", folder);
    snprintf(config->name, sizeof config->name, "gate");
    snprintf(config->ticket_keys, sizeof config->ticket_keys, "%s", file);
    config->data_only = true;
    s->config = *config;
    for (size_t i = 0; i < CHILDREN; i++)
        s->children[i].control = -1;
    chv_log_open("supervisor", CHV_LOG_STDERR, CHV_LOG_INFO);
}

static void end(void)
{
    chv_supervisor_forget_ticket_keys(s);
    CU_ASSERT_PTR_NULL(s->ticket_keys);
    free(s);
    free(config);
    CU_ASSERT_EQUAL(unlink(file), 0);
    CU_ASSERT_EQUAL(rmdir(folder), 0);
}

static void load(int first, int days, const char *wanted)
{
    write_keys(first, days);
    capture();
    CU_ASSERT_EQUAL(chv_supervisor_load_ticket_keys(s, config, &why), CHV_OK);
    captured(wanted);
    CU_ASSERT_PTR_NOT_NULL_FATAL(s->ticket_keys);
    CU_ASSERT_EQUAL(s->ticket_keys->count, (size_t)days);
}

/* What is said when it looks, with what it said last being so many days old. */
static void look(uint64_t days, const char *wanted)
{
    s->ticket_keys_day -= days;
    s->ticket_keys_look = 0;
    capture();
    chv_supervisor_look_at_ticket_keys(s);
    captured(wanted);
    CU_ASSERT(s->ticket_keys_look > chv_clock_ms() && s->ticket_keys_look <= chv_clock_ms() + 3600 * 1000);
}

static void test_it_is_said_once_a_day(void)
{
    begin();
    load(0, 10, "info supervisor");
    look(0, NULL);
    look(1, NULL); /* there is time */
    load(0, 2, "its ticket keys run out at");
    look(0, NULL); /* it was said today */
    look(1, "warning supervisor");
    look(0, NULL);
    load(-5, 3, "error supervisor");
    look(1, "has no ticket key for now");
    load(5, 3, "error supervisor"); /* keys of days to come are none for now */
    end();
}

static void test_a_bad_file_changes_nothing(void)
{
    begin();
    load(0, 10, "ticket keys until");
    FILE *f = fopen(file, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    fputs("something else\n", f);
    fclose(f);
    CU_ASSERT_EQUAL(chv_supervisor_load_ticket_keys(s, config, &why), CHV_ERR_CONFIG);
    CU_ASSERT_EQUAL(s->ticket_keys->count, 10);
    config->data_only = false; /* who is none reads none */
    CU_ASSERT_EQUAL(chv_supervisor_load_ticket_keys(s, config, &why), CHV_OK);
    CU_ASSERT_EQUAL(s->ticket_keys->count, 10);
    end();
}

static void test_they_are_sent(void)
{
    struct chv_ipc_message message;
    int ends[2], fds[CHV_WORKERS_MAX];
    size_t count;
    begin();
    load(0, 4, "ticket keys until");
    CU_ASSERT_EQUAL_FATAL(chv_ipc_pair(ends, &why), CHV_OK);
    chv_supervisor_send_ticket_keys(s); /* nobody there */
    s->children[CHILD_NET].control = ends[0];
    chv_supervisor_send_ticket_keys(s);
    CU_ASSERT_EQUAL_FATAL(chv_ipc_receive(ends[1], &message, fds, &count), CHV_OK);
    CU_ASSERT_EQUAL(message.kind, CHV_IPC_TICKET_KEYS);
    CU_ASSERT_EQUAL(memcmp(&message.keys, s->ticket_keys, sizeof message.keys), 0);
    CU_ASSERT_EQUAL(chv_ipc_receive(ends[1], &message, fds, &count), CHV_ERR_NOT_FOUND); /* once */
    close(ends[0]);
    close(ends[1]);
    end();
}

TEST_MAIN("supervisor_tickets", {"it is said once a day", test_it_is_said_once_a_day},
          {"a bad file changes nothing", test_a_bad_file_changes_nothing}, {"they are sent", test_they_are_sent})
