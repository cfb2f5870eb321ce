/* SPDX-License-Identifier: Apache-2.0 */
/* chaveiro watch: files that the server's operator pushes, each exactly once, for ever or until there are no more. */
#include "tools/chaveiro_watch_state.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/encode.h"
#include "net/control.h"
#include "tools/chaveiro_files.h"

enum {
    WATCH_SIGNALS = 3,
    PING_MS = 60000, /* a connection that is gone is noticed so late, and --timeout */
    PROGRESS_FROM = 1 << 20,
    WHO_SIZE = 512
};

struct watch_job {
    struct chaveiro_link *link;
    struct chaveiro_watch_state state;
    bool once, json, handles, idle;
    int refused; /* exit code of the first that was */
    /* The file that is coming in. */
    struct {
        bool active, discard;
        struct chv_push_entry entry;
        int fd;
        uint64_t got;
        struct chv_files_digest *digest;
        struct chaveiro_progress progress;
    } in;
    /* Whole ones that are to get their names. */
    struct chaveiro_watch_file files[CHV_PUSH_WINDOW];
    size_t count;
    uv_check_t check;
    uv_timer_t ping;
    uv_signal_t signals[WATCH_SIGNALS];
};

/* --- results ------------------------------------------------------------------------------------------------------- */

static void tell(const struct watch_job *job, const char *name, const uint8_t id[CHV_PUSH_ID_LEN],
                 const uint8_t sha256[CHV_FILES_DIGEST_LEN])
{
    char entry[CHV_PUSH_ID_TEXT], hex[CHV_HEX_SIZE(CHV_FILES_DIGEST_LEN)];
    if (job->json) {
        chv_push_id_text(id, entry);
        chv_hex_encode(sha256, CHV_FILES_DIGEST_LEN, hex);
        chv_cli_print(json_pack("{s:s, s:s, s:s}", "name", name, "entry", entry, "sha256", hex), true);
    } else {
        if (isatty(STDOUT_FILENO) == 1)
            chv_cli_put_escaped(stdout, name, strlen(name), false);
        else
            (void)fputs(name, stdout);
        (void)putchar('\n');
    }
}

static void tell_recovered(const struct chaveiro_watch_intent *intent, void *arg)
{
    tell(arg, intent->name, intent->id, intent->sha256);
}

static int exit_of(unsigned code)
{
    return code == 403 ? EX_NOPERM : code == 400 ? EX_DATAERR : EX_CANTCREAT;
}

static void send_answer(struct watch_job *job, const struct chv_push_answer *answer)
{
    uint8_t map[CHV_CONTROL_MAX];
    size_t len = sizeof map;
    if (job->link->message == NULL)
        return; /* what is stored is told in the next connection */
    enum chv_err err = chv_push_answer_encode(answer, map, &len);
    if (err == CHV_OK)
        err = chv_conn_send(chv_message_conn(job->link->message), CHV_PUSH_ANSWER, map, len);
    (void)err; /* the end of the connection says more */
}

static void send_stored(struct watch_job *job, const uint8_t id[CHV_PUSH_ID_LEN],
                        const uint8_t sha256[CHV_FILES_DIGEST_LEN])
{
    struct chv_push_answer answer = {.code = 200};
    memcpy(answer.id, id, sizeof answer.id);
    memcpy(answer.sha256, sha256, sizeof answer.sha256);
    send_answer(job, &answer);
}

static void refuse(struct watch_job *job, const struct chv_push_entry *entry, unsigned code, const char *text)
{
    struct chv_push_answer answer = {.code = code};
    memcpy(answer.id, entry->id, sizeof answer.id);
    (void)snprintf(answer.text, sizeof answer.text, "%s", text);
    send_answer(job, &answer);
    int exit_code = chv_cli_fail(exit_of(code), "%s: not taken: %s (%u)", entry->name, text, code);
    if (job->refused == EX_OK)
        job->refused = exit_code;
}

static void refuse_errno(struct watch_job *job, const struct chv_push_entry *entry, int failed)
{
    struct chaveiro_watch_file file = {.fd = -1};
    chaveiro_watch_refuse(&file, failed);
    refuse(job, entry, file.code, file.text);
}

/* --- whole files --------------------------------------------------------------------------------------------------- */

/* --once: nothing more is to come, and the server has removed all that came. */
static void finish_if_drained(struct watch_job *job)
{
    if (job->once && job->idle && job->count == 0 && !job->in.active && job->state.count == 0 && !job->link->failed)
        chaveiro_finish(job->link);
}

/* False: the link has failed. */
static bool commit(struct watch_job *job)
{
    struct chv_why why = {""};
    const size_t n = job->count;
    job->count = 0;
    if (job->handles)
        (void)uv_check_stop(&job->check);
    if (n == 0)
        return true;
    enum chv_err err = chaveiro_watch_commit(&job->state, job->files, n, &why);
    if (err != CHV_OK) {
        chaveiro_fail_why(job->link, err, &why);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        const struct chaveiro_watch_file *file = &job->files[i];
        if (file->code == 200) {
            tell(job, file->entry.name, file->entry.id, file->entry.sha256);
            send_stored(job, file->entry.id, file->entry.sha256);
        } else {
            refuse(job, &file->entry, file->code, file->text);
        }
    }
    if (fflush(stdout) != 0)
        chaveiro_fail(job->link, EX_IOERR, "standard output: %s", strerror(errno));
    finish_if_drained(job);
    return !job->link->failed;
}

/* What one turn of the loop has brought. */
static void on_check(uv_check_t *check)
{
    (void)commit(check->data);
}

static bool comes_already(const struct watch_job *job, const struct chv_push_entry *entry)
{
    for (size_t i = 0; i < job->count; i++)
        if (strcmp(job->files[i].entry.name, entry->name) == 0 ||
            memcmp(job->files[i].entry.id, entry->id, sizeof entry->id) == 0)
            return true;
    return false;
}

/* --- the file that is coming in ------------------------------------------------------------------------------------ */

static void drop_in(struct watch_job *job)
{
    if (job->in.fd >= 0) {
        (void)close(job->in.fd);
        chaveiro_watch_drop(&job->state, job->in.entry.id);
    }
    job->in.fd = -1;
    chaveiro_progress_end(&job->in.progress);
}

static void refuse_in(struct watch_job *job, int failed)
{
    drop_in(job);
    job->in.discard = true;
    refuse_errno(job, &job->in.entry, failed);
}

static enum chv_err begin_in(struct watch_job *job)
{
    const struct chv_push_entry *entry = &job->in.entry;
    const char *wrong = chv_push_name_check(entry->name, strlen(entry->name));
    job->in.active = true;
    job->in.discard = true;
    job->in.got = 0;
    job->idle = false;
    if (wrong != NULL) {
        refuse(job, entry, 400, wrong);
        return CHV_OK;
    }
    if (comes_already(job, entry) && !commit(job))
        return CHV_OK;
    const struct chaveiro_watch_intent *intent = chaveiro_watch_find(&job->state, entry->id);
    if (intent != NULL) { /* it came, and the answer was lost */
        send_stored(job, intent->id, intent->sha256);
        return CHV_OK;
    }
    if (chaveiro_watch_taken(&job->state, entry->name)) {
        refuse_errno(job, entry, EEXIST);
        return CHV_OK;
    }
    job->in.fd = chaveiro_watch_part(&job->state, entry->id);
    if (job->in.fd < 0) {
        refuse_errno(job, entry, errno);
        return CHV_OK;
    }
    job->in.discard = false;
    chv_files_digest_free(job->in.digest);
    job->in.digest = NULL;
    if (entry->size >= PROGRESS_FROM)
        chaveiro_progress_begin(&job->in.progress, job->link->args, entry->name, entry->size);
    return chv_files_digest_new(&job->in.digest);
}

static enum chv_err on_entry(struct watch_job *job, const uint8_t *body, size_t len)
{
    if (job->in.active || chv_push_entry_decode(body, len, &job->in.entry) != CHV_OK)
        return CHV_ERR_PROTOCOL;
    return begin_in(job);
}

static enum chv_err on_data(struct watch_job *job, const uint8_t *data, size_t len)
{
    if (!job->in.active)
        return CHV_ERR_PROTOCOL;
    if (job->in.discard)
        return CHV_OK;
    if (len > job->in.entry.size - job->in.got)
        return CHV_ERR_PROTOCOL;
    job->in.got += len;
    enum chv_err err = chv_files_digest_add(job->in.digest, data, len);
    while (len > 0 && err == CHV_OK) {
        ssize_t n = write(job->in.fd, data, len);
        if (n < 0 && errno != EINTR) {
            refuse_in(job, errno);
            return CHV_OK;
        }
        data += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    chaveiro_progress_to(&job->in.progress, job->in.got);
    return err;
}

static enum chv_err on_end(struct watch_job *job, const uint8_t *digest, size_t len)
{
    uint8_t own[CHV_FILES_DIGEST_LEN];
    const struct chv_push_entry *entry = &job->in.entry;
    if (!job->in.active || (len != 0 && len != sizeof own))
        return CHV_ERR_PROTOCOL;
    job->in.active = false;
    chaveiro_progress_end(&job->in.progress);
    if (job->in.discard)
        return CHV_OK;
    if (len == 0) { /* the server has given it up */
        drop_in(job);
        return CHV_OK;
    }
    if (chv_files_digest_finish(job->in.digest, own) != CHV_OK || job->in.got != entry->size ||
        memcmp(own, digest, sizeof own) != 0 || memcmp(own, entry->sha256, sizeof own) != 0) {
        drop_in(job);
        return CHV_ERR_PROTOCOL;
    }
    job->files[job->count++] = (struct chaveiro_watch_file){.entry = *entry, .fd = job->in.fd};
    job->in.fd = -1;
    if (job->count == CHV_PUSH_WINDOW)
        (void)commit(job);
    else
        (void)uv_check_start(&job->check, on_check);
    return CHV_OK;
}

/* --- the connection ------------------------------------------------------------------------------------------------ */

static enum chv_err on_gone(struct watch_job *job, const uint8_t *id, size_t len)
{
    struct chv_why why = {""};
    if (len != CHV_PUSH_ID_LEN)
        return CHV_ERR_PROTOCOL;
    enum chv_err err = chaveiro_watch_gone(&job->state, id, &why);
    if (err != CHV_OK)
        chaveiro_fail_why(job->link, err, &why);
    else
        finish_if_drained(job);
    return CHV_OK;
}

static enum chv_err watch_record(struct chaveiro_link *link, uint8_t type, const uint8_t *body, size_t len)
{
    struct watch_job *job = link->state;
    enum chv_err err = CHV_ERR_PROTOCOL;
    if (link->failed)
        return CHV_OK;
    if (type == CHV_PUSH_ENTRY)
        err = on_entry(job, body, len);
    else if (type == CHV_RECORD_DATA)
        err = on_data(job, body, len);
    else if (type == CHV_RECORD_END)
        err = on_end(job, body, len);
    else if (type == CHV_PUSH_GONE)
        err = on_gone(job, body, len);
    else if (type == CHV_PUSH_IDLE && len == 0)
        err = CHV_OK;
    if (type == CHV_PUSH_IDLE && err == CHV_OK) {
        job->idle = true;
        finish_if_drained(job);
    }
    if (err == CHV_ERR_PROTOCOL && link->message != NULL)
        chv_conn_explain(chv_message_conn(link->message),
                         "the server sent a record of type %u that is not due, or not what it should be",
                         (unsigned)type);
    return err;
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct watch_job *job = handle->data;
    chaveiro_progress_end(&job->in.progress);
    chaveiro_interrupt(job->link, number);
}

static void on_ping(uv_timer_t *timer)
{
    struct watch_job *job = timer->data;
    if (job->link->message != NULL && chv_message_ping(job->link->message) == CHV_OK)
        chaveiro_due(job->link, true);
}

static void open_handles(struct watch_job *job)
{
    static const int numbers[WATCH_SIGNALS] = {SIGINT, SIGTERM, SIGHUP};
    uv_loop_t *loop = &job->link->loop.uv;
    for (size_t i = 0; i < WATCH_SIGNALS; i++) {
        (void)uv_signal_init(loop, &job->signals[i]);
        job->signals[i].data = job;
        (void)uv_signal_start(&job->signals[i], on_signal, numbers[i]);
    }
    (void)uv_check_init(loop, &job->check);
    (void)uv_timer_init(loop, &job->ping);
    job->check.data = job->ping.data = job;
    job->handles = true;
}

/* "SERVER CLIENT"; in profile key, which has no names, fingerprints. */
static void who(const struct chaveiro_link *link, char out[WHO_SIZE])
{
    char server[CHV_FINGERPRINT_MAX], client[CHV_FINGERPRINT_MAX];
    if (link->key.profile == CHV_PROFILE_KEY)
        (void)snprintf(out, WHO_SIZE, "%s %s", chaveiro_fingerprint(link, &link->key.server_key, server),
                       chaveiro_fingerprint(link, &link->key.identity, client));
    else
        (void)snprintf(out, WHO_SIZE, "%s %s", link->key.server, link->key.parsed.id);
}

static void watch_ready(struct chaveiro_link *link)
{
    struct watch_job *job = link->state;
    struct chv_session_info info;
    struct chv_why why = {""};
    char name[WHO_SIZE];
    uint64_t ping = PING_MS;
    job->link = link;
    job->idle = false;
    who(link, name);
    enum chv_err err = chaveiro_watch_bind(&job->state, name, &why);
    if (err != CHV_OK) {
        chaveiro_fail_why(link, err, &why);
        return;
    }
    if (!job->handles)
        open_handles(job);
    if (chv_session_get_info(chv_conn_session(chv_message_conn(link->message)), &info) == CHV_OK &&
        info.idle_seconds != 0 && info.idle_seconds * UINT64_C(1000) / 3 < ping)
        ping = info.idle_seconds * UINT64_C(1000) / 3 + 1;
    (void)uv_timer_start(&job->ping, on_ping, ping, ping);
    for (size_t i = 0; i < job->state.count; i++) /* answers that were lost */
        send_stored(job, job->state.intents[i].id, job->state.intents[i].sha256);
    if (job->once)
        chaveiro_due(link, true);
}

static void watch_drained(struct chaveiro_link *link)
{
    (void)link; /* answers are small: they are kept */
}

static void leave_in(struct watch_job *job)
{
    drop_in(job);
    job->in.active = job->in.discard = false;
}

static bool watch_again(struct chaveiro_link *link)
{
    struct watch_job *job = link->state;
    leave_in(job);
    if (job->handles)
        (void)uv_timer_stop(&job->ping);
    return !job->once && (job->link == NULL || commit(job));
}

static void watch_over(struct chaveiro_link *link)
{
    struct watch_job *job = link->state;
    leave_in(job);
    for (size_t i = 0; i < job->count; i++) { /* they are offered again */
        (void)close(job->files[i].fd);
        chaveiro_watch_drop(&job->state, job->files[i].entry.id);
    }
    job->count = 0;
    for (size_t i = 0; i < WATCH_SIGNALS && job->handles; i++)
        uv_close((uv_handle_t *)&job->signals[i], NULL);
    if (job->handles) {
        uv_close((uv_handle_t *)&job->check, NULL);
        uv_close((uv_handle_t *)&job->ping, NULL);
    }
    job->handles = false;
}

static const struct chaveiro_job watch_job = {.service = "push",
                                              .ready = watch_ready,
                                              .record = watch_record,
                                              .drained = watch_drained,
                                              .again = watch_again,
                                              .over = watch_over};

int chaveiro_watch(const struct chv_cli_args *args)
{
    struct chv_why why = {""};
    struct watch_job *job = calloc(1, sizeof *job);
    if (job == NULL)
        return chv_cli_why(CHV_ERR_MEMORY, NULL);
    job->once = chv_cli_given(args, "once");
    job->json = chv_cli_given(args, "json");
    job->in.fd = -1;
    enum chv_err err = chaveiro_watch_open(args->operands[0], &job->state, tell_recovered, job, &why);
    int code = err != CHV_OK ? chv_cli_why(err, &why) : EX_OK;
    if (err == CHV_OK) {
        (void)fflush(stdout);
        code = chaveiro_run(args, &watch_job, job);
    }
    if (code == EX_OK)
        code = job->refused;
    chaveiro_watch_close(&job->state);
    chv_files_digest_free(job->in.digest);
    free(job);
    return code;
}
