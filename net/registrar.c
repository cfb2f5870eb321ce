/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "net/registrar_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char deny_scheme[] = "revoked:";

enum { BUSY_MS = 500, CONNECT_SECONDS = 2, SAY_AGAIN_MS = 10000 };

size_t chv_registrar_answer_size(const struct chv_registrar_answer *answer)
{
    return offsetof(struct chv_registrar_answer, scopes) + answer->scope_count * sizeof answer->scopes[0];
}

size_t chv_registrar_answer_take(const uint8_t *packet, size_t len, struct chv_registrar_answer *answer)
{
    const size_t fixed = offsetof(struct chv_registrar_answer, scopes);
    memset(answer, 0, sizeof *answer);
    if (len < fixed)
        return 0;
    memcpy(answer, packet, fixed);
    if (answer->scope_count > CHV_SCOPES_MAX || len < chv_registrar_answer_size(answer) ||
        answer->id[sizeof answer->id - 1] != '\0' || answer->reason[sizeof answer->reason - 1] != '\0')
        return 0;
    const size_t size = chv_registrar_answer_size(answer);
    memcpy(answer->scopes, packet + fixed, size - fixed);
    for (size_t i = 0; i < answer->scope_count; i++)
        if (answer->scopes[i][CHV_SCOPE_MAX] != '\0')
            return 0;
    return size;
}

/* --- the registry, there or not ----------------------------------------------------------------------------------- */

/* The same failure again and again is said once in a while. */
static void complain(struct chv_registrar *r, uint64_t now, const char *text)
{
    if (strcmp(r->complaint, text) == 0 && now < r->complain_at)
        return;
    (void)snprintf(r->complaint, sizeof r->complaint, "%s", text);
    r->complain_at = now + SAY_AGAIN_MS;
    chv_log(CHV_LOG_ERROR, "%s; %s", text,
            r->setup.required ? "new clients get 503, established sessions go on"
                              : "clients are served by their credentials and the last deny snapshot");
}

static void give_up(struct chv_registrar *r)
{
    chv_registry_close(r->registry);
    r->registry = NULL;
    chv_registrar_cache_clear(r);
}

void chv_registrar_failed(struct chv_registrar *r, uint64_t now, enum chv_err err, const struct chv_why *why)
{
    complain(r, now, why->text[0] != '\0' ? why->text : chv_err_text(err));
    r->failing = true;
    r->retry_at = now + CHV_REGISTRAR_RETRY_MS;
    if (err != CHV_ERR_BUSY)
        give_up(r);
}

bool chv_registrar_complete(const struct chv_registrar *r)
{
    return r->registry != NULL && (chv_registry_traits(r->registry) & CHV_REGISTRY_COMPLETE) != 0;
}

bool chv_registrar_writable(const struct chv_registrar *r)
{
    return r->registry != NULL && (chv_registry_traits(r->registry) & CHV_REGISTRY_WRITABLE) != 0;
}

/* An old backup was restored, or the registry exchanged: said loudly, once; then it is what counts. */
static enum chv_err check_mark(struct chv_registrar *r, struct chv_why *why)
{
    bool older = false;
    struct chv_why text = {""};
    if (r->setup.state[0] == '\0' || !chv_registrar_writable(r))
        return CHV_OK;
    enum chv_err err = chv_registry_mark_check(r->registry, r->setup.state, &older, &text);
    if (err == CHV_OK && older)
        chv_log(CHV_LOG_ERROR, "%s", text.text);
    r->older |= err == CHV_OK && older;
    if (err == CHV_ERR_CONFIG) { /* the mark is no reason not to serve */
        chv_log(CHV_LOG_ERROR, "%s", text.text);
        err = CHV_OK;
    }
    r->mark_due = err == CHV_OK;
    return err == CHV_OK ? CHV_OK : chv_fail(why, err, "%s", text.text);
}

/* Whether a deny file that was not there is in a folder that this user may not even look into. */
static bool hidden(struct chv_registrar *r)
{
    struct stat file;
    const char *path = r->uri + strlen(deny_scheme);
    if (!r->setup.absent || stat(path, &file) == 0 || errno != EACCES)
        return false;
    if (!r->missing)
        chv_log(CHV_LOG_WARNING,
                "%s: this user may not look into the folder: a deny file that is put there is not read", path);
    return true;
}

static enum chv_err take_epoch(void *arg, const struct chv_registry_epoch *epoch)
{
    struct chv_registrar *r = arg;
    if (epoch->status != CHV_EPOCH_COMPROMISED)
        return CHV_OK;
    if (r->compromised_count == CHV_REGISTRAR_EPOCHS_MAX)
        return CHV_ERR_SPACE;
    r->compromised[r->compromised_count++] = epoch->epoch;
    return CHV_OK;
}

static enum chv_err load_epochs(struct chv_registrar *r, struct chv_why *why)
{
    r->compromised_count = 0;
    return chv_registrar_writable(r) ? chv_registry_epoch_list(r->registry, take_epoch, r, why) : CHV_OK;
}

static enum chv_err open_registry(struct chv_registrar *r, uint64_t now, struct chv_why *why)
{
    const bool deny_list = strncmp(r->uri, deny_scheme, strlen(deny_scheme)) == 0;
    const struct chv_registry_options options = {.mode = deny_list ? CHV_REGISTRY_READ : CHV_REGISTRY_WRITE,
                                                 .busy_ms = BUSY_MS,
                                                 .connect_seconds = CONNECT_SECONDS,
                                                 .crypto = r->setup.crypto};
    struct chv_registry_info info;
    struct chv_why detail = {""};
    enum chv_err err = chv_registry_open(r->uri, &options, &r->registry, &detail);
    r->missing = deny_list && (err == CHV_ERR_NOT_FOUND || (err != CHV_OK && hidden(r)));
    if (r->missing)
        return CHV_OK;
    if (err != CHV_OK)
        return chv_fail(why, err, "%s", detail.text);
    err = check_mark(r, why);
    if (err == CHV_OK)
        err = chv_registry_info(r->registry, &info, why);
    if (err == CHV_OK)
        err = load_epochs(r, why);
    if (err != CHV_OK) {
        give_up(r);
        return err;
    }
    r->generation = info.generation;
    r->snapshot_due = !r->setup.required;
    r->seal = (struct chv_registrar_seal){.tags = r->seal.tags};
    chv_registrar_seal_due(r, now);
    return CHV_OK;
}

enum chv_err chv_registrar_open(const struct chv_registrar_setup *setup, uint64_t now, struct chv_registrar **registrar,
                                struct chv_why *why)
{
    struct chv_registrar *r = calloc(1, sizeof *r);
    if (r == NULL || (r->uri = strdup(setup->uri)) == NULL || (r->state = strdup(setup->state)) == NULL ||
        (setup->state[0] != '\0' && asprintf(&r->snapshot_path, "%s/" CHV_REGISTRAR_SNAPSHOT_FILE, setup->state) < 0)) {
        chv_registrar_close(r);
        return chv_fail(why, CHV_ERR_MEMORY, "no memory for the registrar");
    }
    r->setup = *setup;
    r->setup.uri = r->uri;
    r->setup.state = r->state;
    chv_registrar_set_epochs(r, setup->epochs, setup->epoch_count);
    struct chv_why detail = {""};
    enum chv_err err = open_registry(r, now, &detail);
    const bool elsewhere = err == CHV_ERR_UNAVAILABLE || err == CHV_ERR_BUSY || err == CHV_ERR_IO;
    if (err != CHV_OK && !setup->again && (setup->required || !elsewhere)) {
        chv_registrar_close(r);
        return chv_fail(why, err, "%s", detail.text[0] != '\0' ? detail.text : chv_err_text(err));
    }
    if (err != CHV_OK)
        chv_registrar_failed(r, now, err, &detail);
    if (!setup->again && setup->state[0] == '\0' && strncmp(setup->uri, deny_scheme, strlen(deny_scheme)) != 0)
        chv_log(CHV_LOG_WARNING, CHV_REGISTRAR_UNMARKED);
    *registrar = r;
    return CHV_OK;
}

void chv_registrar_set_epochs(struct chv_registrar *r, const uint32_t *epochs, size_t count)
{
    r->served_count = count < CHV_EPOCHS_MAX ? count : CHV_EPOCHS_MAX;
    for (size_t i = 0; i < r->served_count; i++)
        r->served[i] = epochs[i];
    r->unserved_told = false;
}

uint32_t chv_registrar_newest_epoch(const struct chv_registrar *r)
{
    uint32_t newest = 0;
    for (size_t i = 0; i < r->served_count; i++)
        if (r->served[i] > newest && !chv_registrar_is_compromised(r, r->served[i]))
            newest = r->served[i];
    return newest;
}

void chv_registrar_close(struct chv_registrar *r)
{
    if (r == NULL)
        return;
    if (r->registry != NULL && r->seen_count > 0) {
        struct chv_why why = {""};
        if (chv_registry_seen(r->registry, r->seen, r->seen_count, CHV_REGISTRAR_ACTOR, &why) != CHV_OK)
            chv_log(CHV_LOG_ERROR, "%s: %zu clients were seen, and it is not written", why.text, r->seen_count);
    }
    chv_registrar_cache_clear(r);
    chv_registry_close(r->registry);
    chv_registry_close(r->snapshot);
    free(r->snapshot_path);
    free(r->uri);
    free(r->state);
    free(r);
}

int chv_registrar_fd(const struct chv_registrar *r)
{
    return r->registry != NULL && !r->failing ? chv_registry_fd(r->registry) : -1;
}

/* --- changes ------------------------------------------------------------------------------------------------------ */

struct changes {
    size_t n;
    char ids[CHV_REGISTRAR_CHANGES_MAX][CHV_CLIENT_ID_MAX + 1];
};

static enum chv_err take_change(void *arg, const char *id, uint64_t generation)
{
    struct changes *changes = arg;
    (void)generation;
    if (changes->n < CHV_REGISTRAR_CHANGES_MAX)
        (void)snprintf(changes->ids[changes->n], sizeof changes->ids[0], "%s", id);
    changes->n++;
    return changes->n <= CHV_REGISTRAR_CHANGES_MAX ? CHV_OK : CHV_ERR_CANCELLED;
}

/* Tells of all since the generation that is known; an epoch's change has no client, and means everybody. */
static enum chv_err tell_changes(struct chv_registrar *r, uint64_t now, chv_registrar_changed_fn changed, void *arg,
                                 struct chv_why *why)
{
    struct chv_registry_info info;
    struct changes changes = {.n = 0};
    enum chv_err err = chv_registry_info(r->registry, &info, why);
    if (err != CHV_OK)
        return err;
    uint32_t before[CHV_REGISTRAR_EPOCHS_MAX];
    const size_t before_count = r->compromised_count;
    memcpy(before, r->compromised, sizeof before);
    bool all = !chv_registrar_complete(r) || info.generation < r->generation;
    if (!all && info.generation == r->generation)
        return CHV_OK;
    if (info.generation < r->generation)
        err = check_mark(r, why);
    if (err == CHV_OK)
        err = load_epochs(r, why);
    if (err == CHV_OK && !all) {
        err = chv_registry_changed(r->registry, r->generation, take_change, &changes, why);
        all = changes.n == 0 || changes.n > CHV_REGISTRAR_CHANGES_MAX || before_count != r->compromised_count ||
              memcmp(before, r->compromised, before_count * sizeof before[0]) != 0;
    }
    if (err != CHV_OK && err != CHV_ERR_CANCELLED)
        return err;
    r->generation = info.generation;
    r->mark_due = r->snapshot_due = true;
    chv_registrar_seal_due(r, now);
    if (all) {
        chv_registrar_cache_clear(r);
        changed(arg, NULL);
        return CHV_OK;
    }
    for (size_t i = 0; i < changes.n; i++) {
        chv_registrar_cache_forget(r, changes.ids[i]);
        changed(arg, changes.ids[i]);
    }
    return CHV_OK;
}

void chv_registrar_poll(struct chv_registrar *r, uint64_t now, chv_registrar_changed_fn changed, void *arg)
{
    struct chv_why why = {""};
    bool moved = false;
    if (r->failing && now < r->retry_at)
        return;
    enum chv_err err = r->registry == NULL ? open_registry(r, now, &why) : CHV_OK;
    if (err == CHV_OK && r->missing) {
        r->failing = false;
        return;
    }
    if (err == CHV_OK)
        err = chv_registry_poll(r->registry, &moved, &why);
    if (err != CHV_OK && !chv_registrar_complete(r) && r->registry != NULL) {
        chv_log(CHV_LOG_ERROR, "%s", why.text);
        return;
    }
    if (err == CHV_OK && r->failing) { /* what happened meanwhile was missed */
        chv_log(CHV_LOG_WARNING, "registry %s can be reached again", chv_registry_name(r->registry));
        r->failing = false;
        r->complain_at = 0;
        chv_registry_close(r->snapshot);
        r->snapshot = NULL;
        chv_registrar_cache_clear(r);
        changed(arg, NULL);
    }
    if (err == CHV_OK && moved)
        err = tell_changes(r, now, changed, arg, &why);
    if (err != CHV_OK)
        chv_registrar_failed(r, now, err, &why);
}

/* --- once in a while ---------------------------------------------------------------------------------------------- */

void chv_registrar_settle(struct chv_registrar *r, uint64_t now)
{
    if (r->seen_newer)
        chv_registrar_write_seen(r, now);
}

void chv_registrar_write_seen(struct chv_registrar *r, uint64_t now)
{
    struct chv_why why = {""};
    if (r->seen_count == 0 || now < r->seen_retry || r->failing || !chv_registrar_writable(r))
        return;
    enum chv_err err = chv_registry_seen(r->registry, r->seen, r->seen_count, CHV_REGISTRAR_ACTOR, &why);
    r->seen_at = now + CHV_REGISTRAR_SEEN_MS;
    if (err == CHV_OK) {
        if (r->seen_newer)
            chv_registrar_seal_due(r, now);
        r->seen_count = 0;
        r->seen_newer = false;
        r->seen_retry = 0;
        memset(r->seen_index, 0, sizeof r->seen_index);
        return;
    }
    r->seen_retry = r->seen_at;
    /* Reading may go on: it is locked by another writer, read-only, or the disk is full. */
    if (strcmp(r->complaint, why.text) != 0 || now >= r->complain_at) {
        (void)snprintf(r->complaint, sizeof r->complaint, "%s", why.text);
        r->complain_at = now + SAY_AGAIN_MS;
        chv_log(CHV_LOG_ERROR, "%s: who was seen is written later", why.text);
    }
}

static void write_files(struct chv_registrar *r)
{
    struct chv_why why = {""};
    enum chv_err err = CHV_OK;
    if (r->setup.state[0] == '\0' || r->failing || !chv_registrar_writable(r))
        return;
    if (r->mark_due) {
        r->mark_due = false;
        err = chv_registry_mark_write(r->registry, r->setup.state, &why);
        if (err != CHV_OK)
            chv_log(CHV_LOG_ERROR, "%s: an old backup of the registry may go unnoticed", why.text);
    }
    if (r->snapshot_due && !r->setup.required) {
        r->snapshot_due = false;
        err = chv_registry_snapshot_write(r->registry, r->snapshot_path, &why);
        if (err != CHV_OK)
            chv_log(CHV_LOG_ERROR, "%s: the deny snapshot is not up to date", why.text);
    }
}

void chv_registrar_tick(struct chv_registrar *r, uint64_t now)
{
    if (now >= r->seen_at)
        chv_registrar_write_seen(r, now);
    write_files(r);
}
