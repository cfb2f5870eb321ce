/* SPDX-License-Identifier: Apache-2.0 */
/* What the registrar answers: from the registry, its cache, a deny file, the snapshot; and what it writes down. */
#include "config.h"

#include "net/registrar.h"
#include "tests/harness.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NOW = 1800000000 };

static char folder[64], uri[160], file[128];
static struct chv_crypto crypto;
static struct chv_registrar *registrar;
static struct chv_why why;
static uint64_t clock_ms = 1000;
static char changed[200]; /* ids, or "*", each with a space behind it */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void on_changed(void *arg, const char *id)
{
    size_t len = strlen(changed);
    (void)arg;
    snprintf(changed + len, sizeof changed - len, "%s ", id != NULL ? id : "*");
}

static void begin(void)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/chv-XXXXXX", tmp != NULL ? tmp : "/tmp");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/clients.db", folder);
    snprintf(uri, sizeof uri, "sqlite:%s", file);
    CU_ASSERT_EQUAL_FATAL(chv_backend_open("openssl", &crypto, NULL), CHV_OK);
}

static void end(void)
{
    chv_registrar_close(registrar);
    registrar = NULL;
    chv_backend_close(&crypto);
    (void)nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static struct chv_registry *open_registry(enum chv_registry_mode mode)
{
    struct chv_registry *r = NULL;
    const struct chv_registry_options options = {.mode = mode, .crypto = &crypto};
    CU_ASSERT_EQUAL_FATAL(chv_registry_open(uri, &options, &r, &why), CHV_OK);
    return r;
}

static unsigned put_flags;

static void put(const char *id, enum chv_client_status status, struct chv_issue minimum, struct chv_issue latest)
{
    struct chv_registry *r = open_registry(CHV_REGISTRY_CREATE);
    struct chv_registry_client c;
    struct chv_audit_row row = {.time = NOW, .actor = "test", .action = "put"};
    CU_ASSERT_EQUAL_FATAL(chv_registry_begin(r, &why), CHV_OK);
    if (chv_registry_get(r, id, &c, &why) != CHV_OK) {
        c = (struct chv_registry_client){.profile = CHV_PROFILE_PSK, .scope_count = 1, .scopes = {"message"}};
        snprintf(c.id, sizeof c.id, "%s", id);
    }
    c.status = status;
    c.minimum = minimum;
    c.latest = latest;
    c.flags = put_flags;
    CU_ASSERT_EQUAL_FATAL(chv_registry_put(r, &c, &why), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_registry_audit(r, &row, &why), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_registry_commit(r, &why), CHV_OK);
    chv_registry_close(r);
}

static const struct chv_issue first = {1, 1}, second = {1, 2};

static enum chv_err start(bool required, bool again)
{
    static const uint32_t served[] = {1};
    const struct chv_registrar_setup setup = {.uri = uri,
                                              .state = folder,
                                              .required = required,
                                              .again = again,
                                              .crypto = &crypto,
                                              .epoch_count = 1,
                                              .epochs = served};
    memset(&why, 0, sizeof why);
    enum chv_err err = chv_registrar_open(&setup, clock_ms, &registrar, &why);
    if (err == CHV_OK)
        chv_registrar_poll(registrar, clock_ms, on_changed, NULL);
    changed[0] = '\0';
    return err;
}

/* A whole turn, as the process does it. */
static struct chv_registrar_answer ask(enum chv_registrar_kind kind, const char *id, uint32_t serial)
{
    static struct chv_registrar_answer answer;
    struct chv_registrar_request q = {.tag = 7, .epoch = 1, .serial = serial, .kind = (uint8_t)kind, .profile = 1};
    snprintf(q.id, sizeof q.id, "%s", id);
    clock_ms += 2000; /* longer than a failure is remembered */
    chv_registrar_poll(registrar, clock_ms, on_changed, NULL);
    chv_registrar_answer(registrar, clock_ms, NOW, &q, sizeof q, &answer);
    chv_registrar_settle(registrar, clock_ms);
    CU_ASSERT_EQUAL(answer.tag, 7);
    const size_t size = chv_registrar_answer_size(&answer);
    struct chv_registrar_answer copy;
    CU_ASSERT_EQUAL(chv_registrar_answer_take((const uint8_t *)&answer, size, &copy), size);
    CU_ASSERT_EQUAL(memcmp(&copy, &answer, size), 0);
    return answer;
}

static void expect(const char *id, uint32_t serial, enum chv_verdict verdict)
{
    struct chv_registrar_answer a = ask(CHV_REGISTRAR_OPEN, id, serial);
    CU_ASSERT_EQUAL(a.status, CHV_REGISTRAR_OK);
    CU_ASSERT_EQUAL(a.verdict, verdict);
}

static void test_answers(void)
{
    begin();
    put("cam1", CHV_CLIENT_ACTIVE, first, second);
    put("cam2", CHV_CLIENT_SUSPENDED, first, first);
    put("cam3", CHV_CLIENT_ACTIVE, second, second);
    CU_ASSERT_EQUAL_FATAL(start(true, false), CHV_OK);
    struct chv_registrar_answer a = ask(CHV_REGISTRAR_OPEN, "cam1", 1);
    CU_ASSERT_EQUAL(a.status, CHV_REGISTRAR_OK);
    CU_ASSERT_EQUAL(a.verdict, CHV_VERDICT_OK);
    CU_ASSERT_EQUAL(a.known, 1);
    CU_ASSERT_EQUAL(a.has_scopes, 1);
    CU_ASSERT_EQUAL(a.scope_count, 1);
    CU_ASSERT_STRING_EQUAL(a.scopes[0], "message");
    CU_ASSERT_STRING_EQUAL(a.id, "cam1");
    expect("cam1", 1, CHV_VERDICT_OK); /* from the cache */
    expect("cam2", 1, CHV_VERDICT_SUSPENDED);
    expect("cam3", 1, CHV_VERDICT_SUPERSEDED);
    expect("cam9", 1, CHV_VERDICT_UNKNOWN);
    end();
}

/* What a newer credential raises holds at once, is written, and an older one is then a copy; a session stays. */
static void test_newer(void)
{
    struct chv_registry_client c;
    begin();
    put("cam1", CHV_CLIENT_ACTIVE, first, second);
    CU_ASSERT_EQUAL_FATAL(start(true, false), CHV_OK);
    expect("cam1", 1, CHV_VERDICT_OK);
    expect("cam1", 2, CHV_VERDICT_OK);
    struct chv_registry *r = open_registry(CHV_REGISTRY_READ);
    CU_ASSERT_EQUAL(chv_registry_get(r, "cam1", &c, &why), CHV_OK);
    CU_ASSERT_EQUAL(c.confirmed.serial, 2);
    CU_ASSERT_EQUAL(c.minimum.serial, 2);
    chv_registry_close(r);
    expect("cam1", 1, CHV_VERDICT_CLONE);
    CU_ASSERT_EQUAL(ask(CHV_REGISTRAR_RECHECK, "cam1", 1).verdict, CHV_VERDICT_OK);
    put("cam1", CHV_CLIENT_SUSPENDED, second, second);
    CU_ASSERT_EQUAL(ask(CHV_REGISTRAR_RECHECK, "cam1", 1).verdict, CHV_VERDICT_SUSPENDED);
    end();
}

/* The credential in the place of a leaked one is updated in band from its second session on; the leaked one's end. */
static void test_leaked(void)
{
    begin();
    put("cam1", CHV_CLIENT_ACTIVE, first, first);
    CU_ASSERT_EQUAL_FATAL(start(true, false), CHV_OK);
    expect("cam1", 1, CHV_VERDICT_OK);
    put_flags = CHV_CLIENT_NO_UPDATE;
    put("cam1", CHV_CLIENT_ACTIVE, second, second);
    put_flags = 0;
    CU_ASSERT_EQUAL(ask(CHV_REGISTRAR_OPEN, "cam1", 2).no_update, 1);
    CU_ASSERT_EQUAL(ask(CHV_REGISTRAR_OPEN, "cam1", 2).no_update, 0);
    expect("cam1", 1, CHV_VERDICT_CLONE);
    CU_ASSERT_EQUAL(ask(CHV_REGISTRAR_RECHECK, "cam1", 1).verdict, CHV_VERDICT_CLONE);
    CU_ASSERT_EQUAL(ask(CHV_REGISTRAR_RECHECK, "cam1", 2).verdict, CHV_VERDICT_OK);
    end();
}

/* A credential that was handed out is not made the older one by a key update of the one that it is in the place of. */
static void test_on_its_way(void)
{
    static const uint32_t two[] = {1, 2}, three[] = {1, 2, 3};
    begin();
    put("cam1", CHV_CLIENT_ACTIVE, first, second);
    put("cam2", CHV_CLIENT_ACTIVE, first, first);
    put("cam3", CHV_CLIENT_ACTIVE, first, (struct chv_issue){2, 2});
    CU_ASSERT_EQUAL_FATAL(start(true, false), CHV_OK);
    CU_ASSERT_EQUAL(ask(CHV_REGISTRAR_OPEN, "cam1", 1).no_update,
                    1); /* the net process may know of a newer epoch first */
    chv_registrar_set_epochs(registrar, two, 2);
    CU_ASSERT_EQUAL(ask(CHV_REGISTRAR_OPEN, "cam1", 1).no_update, 1);
    CU_ASSERT_EQUAL(ask(CHV_REGISTRAR_OPEN, "cam2", 1).no_update, 0);
    CU_ASSERT_EQUAL(ask(CHV_REGISTRAR_OPEN, "cam3", 1).no_update, 0); /* what it is handed, 2.1, is older than 2.2 */
    chv_registrar_set_epochs(registrar, three, 3);
    CU_ASSERT_EQUAL(ask(CHV_REGISTRAR_OPEN, "cam3", 1).no_update, 1);
    CU_ASSERT_EQUAL(ask(CHV_REGISTRAR_OPEN, "cam1", 2).no_update, 0); /* it has come */
    end();
}

static struct chv_registry_client row_of(const char *id)
{
    struct chv_registry_client c;
    struct chv_registry *r = open_registry(CHV_REGISTRY_READ);
    CU_ASSERT_EQUAL_FATAL(chv_registry_get(r, id, &c, &why), CHV_OK);
    chv_registry_close(r);
    return c;
}

/* Nobody can have proven a credential of an epoch that is not served: to say so shuts no client out. */
static struct chv_issue confirmed(const char *id)
{
    struct chv_registry *r = open_registry(CHV_REGISTRY_READ);
    struct chv_registry_client c = {.confirmed = {0, 0}};
    CU_ASSERT_EQUAL(chv_registry_get(r, id, &c, &why), CHV_OK);
    chv_registry_close(r);
    return c.confirmed;
}

/* A serial that was never handed out locks nobody out; unless the registry forgot that it was, for it is an old backup. */
static void test_unissued(void)
{
    char path[128];
    begin();
    put("cam1", CHV_CLIENT_ACTIVE, first, second);
    CU_ASSERT_EQUAL_FATAL(start(true, false), CHV_OK);
    expect("cam1", UINT32_MAX, CHV_VERDICT_OK);
    expect("cam1", 3, CHV_VERDICT_OK);
    expect("cam1", 1, CHV_VERDICT_OK);
    CU_ASSERT_EQUAL(chv_issue_compare(confirmed("cam1"), first), 0);
    expect("cam1", 2, CHV_VERDICT_OK);
    CU_ASSERT_EQUAL(chv_issue_compare(confirmed("cam1"), second), 0);
    chv_registrar_close(registrar);
    registrar = NULL;
    snprintf(path, sizeof path, "%s/" CHV_REGISTRY_MARK_FILE, folder);
    FILE *f = fopen(path, "we");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    fprintf(f, "99 99 %064d\n", 0);
    fclose(f);
    CU_ASSERT_EQUAL_FATAL(start(true, false), CHV_OK);
    expect("cam1", 3, CHV_VERDICT_OK);
    CU_ASSERT_EQUAL(confirmed("cam1").serial, 3);
    end();
}

static void test_unserved(void)
{
    static const uint32_t served[] = {1, 2};
    struct chv_registrar_request q = {
        .tag = 7, .epoch = UINT32_MAX, .serial = UINT32_MAX, .kind = CHV_REGISTRAR_OPEN, .profile = 1, .id = "cam1"};
    struct chv_registrar_answer a;
    char log[80], line[400];
    begin();
    put("cam1", CHV_CLIENT_ACTIVE, first, first);
    CU_ASSERT_EQUAL_FATAL(start(true, false), CHV_OK);
    snprintf(log, sizeof log, "%s/log", folder);
    fflush(stderr);
    const int was = dup(STDERR_FILENO), to = open(log, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CU_ASSERT_FATAL(was >= 0 && to >= 0 && dup2(to, STDERR_FILENO) >= 0);
    for (int i = 0; i < 3; i++) {
        chv_registrar_answer(registrar, clock_ms, NOW, &q, sizeof q, &a);
        chv_registrar_settle(registrar, clock_ms);
    }
    chv_registrar_tick(registrar, clock_ms += 100000);
    CU_ASSERT(dup2(was, STDERR_FILENO) >= 0);
    close(was);
    close(to);
    size_t told = 0;
    FILE *in = fopen(log, "re");
    CU_ASSERT_PTR_NOT_NULL_FATAL(in);
    while (fgets(line, sizeof line, in) != NULL)
        told += strstr(line, "epoch 4294967295, which is not served") != NULL;
    fclose(in);
    CU_ASSERT_EQUAL(told, 1); /* once */
    struct chv_registry_client c = row_of("cam1");
    CU_ASSERT(c.last_seen == 0 && c.confirmed.serial == 0 && chv_issue_compare(c.minimum, first) == 0);
    expect("cam1", 1, CHV_VERDICT_OK);
    q.epoch = 2;
    q.serial = 1;
    chv_registrar_set_epochs(registrar, served, 2);
    chv_registrar_answer(registrar, clock_ms, NOW, &q, sizeof q, &a);
    chv_registrar_settle(registrar, clock_ms);
    CU_ASSERT_EQUAL(row_of("cam1").confirmed.epoch, 2);
    end();
}

/* A change is told by its id, many and epochs as "anybody", and the cache does not outlive it. */
static void test_changes(void)
{
    begin();
    put("cam1", CHV_CLIENT_ACTIVE, first, first);
    put("cam2", CHV_CLIENT_ACTIVE, first, first);
    CU_ASSERT_EQUAL_FATAL(start(true, false), CHV_OK);
    expect("cam1", 1, CHV_VERDICT_OK);
    expect("cam2", 1, CHV_VERDICT_OK);
    clock_ms += 10;
    chv_registrar_poll(registrar, clock_ms, on_changed, NULL); /* their confirmation */
    changed[0] = '\0';
    put("cam2", CHV_CLIENT_REVOKED, first, first);
    chv_registrar_poll(registrar, clock_ms, on_changed, NULL);
    CU_ASSERT_STRING_EQUAL(changed, "cam2 ");
    expect("cam2", 1, CHV_VERDICT_REVOKED);
    expect("cam1", 1, CHV_VERDICT_OK);
    changed[0] = '\0';
    chv_registrar_poll(registrar, clock_ms, on_changed, NULL);
    CU_ASSERT_STRING_EQUAL(changed, "");
    for (int i = 0; i <= CHV_REGISTRAR_CHANGES_MAX; i++) {
        char id[16];
        snprintf(id, sizeof id, "n%d", i);
        put(id, CHV_CLIENT_ACTIVE, first, first);
    }
    chv_registrar_poll(registrar, clock_ms, on_changed, NULL);
    CU_ASSERT_STRING_EQUAL(changed, "* ");
    end();
}

static void test_malformed(void)
{
    struct chv_registrar_answer a;
    struct chv_registrar_request good = {.tag = 1, .epoch = 1, .serial = 1, .kind = 1, .profile = 1, .id = "cam1"}, q;
    begin();
    put("cam1", CHV_CLIENT_ACTIVE, first, first);
    CU_ASSERT_EQUAL_FATAL(start(true, false), CHV_OK);
    chv_registrar_answer(registrar, clock_ms, NOW, &good, sizeof good, &a);
    CU_ASSERT_EQUAL(a.status, CHV_REGISTRAR_OK);
    chv_registrar_answer(registrar, clock_ms, NOW, &good, sizeof good - 1, &a);
    CU_ASSERT_EQUAL(a.status, CHV_REGISTRAR_MALFORMED);
#define BAD(change)                                                                                                    \
    do {                                                                                                               \
        q = good;                                                                                                      \
        change;                                                                                                        \
        chv_registrar_answer(registrar, clock_ms, NOW, &q, sizeof q, &a);                                              \
        CU_ASSERT_EQUAL(a.status, CHV_REGISTRAR_MALFORMED);                                                            \
    } while (0)
    BAD(q.tag = 0);
    BAD(q.kind = 0);
    BAD(q.kind = 4);
    BAD(q.profile = 0);
    BAD(q.profile = 4);
    BAD(q.serial = 0);
    BAD(q.id[0] = '\0');
    BAD(q.id[0] = ' ');
    BAD(memset(q.id, 'a', sizeof q.id));
    BAD(q.profile = CHV_PROFILE_KEY_PSK); /* without a key */
    BAD(q.has_identity = 2);
    BAD(q.has_identity = 1; q.curve = 9);
    end();
}

static void test_answers_of_a_packet(void)
{
    static uint8_t packet[3 * sizeof(struct chv_registrar_answer)];
    struct chv_registrar_answer one = {.tag = 1, .scope_count = 2, .scopes = {"message", "files:ro"}}, two = {.tag = 2},
                                a;
    const size_t len_one = chv_registrar_answer_size(&one), len_two = chv_registrar_answer_size(&two);
    CU_ASSERT_EQUAL(len_two, offsetof(struct chv_registrar_answer, scopes));
    memcpy(packet, &one, len_one);
    memcpy(packet + len_one, &two, len_two);
    CU_ASSERT_EQUAL(chv_registrar_answer_take(packet, len_one + len_two, &a), len_one);
    CU_ASSERT_EQUAL(a.tag, 1);
    CU_ASSERT_STRING_EQUAL(a.scopes[1], "files:ro");
    CU_ASSERT_EQUAL(chv_registrar_answer_take(packet + len_one, len_two, &a), len_two);
    CU_ASSERT_EQUAL(a.tag, 2);
    CU_ASSERT_EQUAL(a.scopes[0][0], '\0'); /* nothing of the one before */
    CU_ASSERT_EQUAL(chv_registrar_answer_take(packet, len_one - 1, &a), 0);
    CU_ASSERT_EQUAL(chv_registrar_answer_take(packet, len_two - 1, &a), 0);
    CU_ASSERT_EQUAL(chv_registrar_answer_take(packet, 0, &a), 0);
}

/* Whether a packet that begins with it, and goes on, begins with an answer. */
static bool is_answer(const struct chv_registrar_answer *made)
{
    static uint8_t packet[2 * sizeof *made];
    struct chv_registrar_answer a;
    memcpy(packet, made, sizeof *made);
    return chv_registrar_answer_take(packet, sizeof packet, &a) > 0;
}

static void test_no_answer(void)
{
    struct chv_registrar_answer a = {.tag = 1, .scope_count = 2};
    CU_ASSERT_TRUE(is_answer(&a));
    memset(a.id, 'a', sizeof a.id);
    CU_ASSERT_FALSE(is_answer(&a));
    a.id[sizeof a.id - 1] = '\0';
    CU_ASSERT_TRUE(is_answer(&a));
    memset(a.reason, 'a', sizeof a.reason);
    CU_ASSERT_FALSE(is_answer(&a));
    a.reason[sizeof a.reason - 1] = '\0';
    CU_ASSERT_TRUE(is_answer(&a));
    memset(a.scopes[1], 'a', sizeof a.scopes[1]);
    CU_ASSERT_FALSE(is_answer(&a));
    a.scopes[1][CHV_SCOPE_MAX] = '\0';
    a.scope_count = CHV_SCOPES_MAX;
    CU_ASSERT_TRUE(is_answer(&a));
    a.scope_count = CHV_SCOPES_MAX + 1;
    CU_ASSERT_FALSE(is_answer(&a));
}

static void move(const char *suffix, bool back)
{
    char away[160];
    snprintf(away, sizeof away, "%s%s", file, suffix);
    CU_ASSERT_EQUAL(back ? rename(away, file) : rename(file, away), 0);
}

/* Away: no answer, or the snapshot's; back: everybody may have been changed. */
static void test_away(void)
{
    begin();
    CU_ASSERT_EQUAL(start(true, false), CHV_ERR_NOT_FOUND);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "clients.db"));
    put("cam1", CHV_CLIENT_ACTIVE, first, first);
    CU_ASSERT_EQUAL_FATAL(start(true, false), CHV_OK);
    move(".away", false);
    CU_ASSERT_EQUAL(ask(CHV_REGISTRAR_OPEN, "cam1", 1).status, CHV_REGISTRAR_UNAVAILABLE);
    move(".away", true);
    changed[0] = '\0';
    expect("cam1", 1, CHV_VERDICT_OK);
    CU_ASSERT_EQUAL(strncmp(changed, "* ", 2), 0);
    end();
}

static void test_snapshot(void)
{
    begin();
    put("cam1", CHV_CLIENT_ACTIVE, first, first);
    put("cam2", CHV_CLIENT_REVOKED, first, first);
    CU_ASSERT_EQUAL_FATAL(start(false, false), CHV_OK);
    chv_registrar_tick(registrar, clock_ms);
    move(".away", false);
    expect("cam1", 1, CHV_VERDICT_OK);
    expect("cam2", 1, CHV_VERDICT_REVOKED);
    expect("stranger", 1, CHV_VERDICT_OK); /* the credential is all there is to go by */
    CU_ASSERT_EQUAL(ask(CHV_REGISTRAR_RECHECK, "cam2", 1).verdict, CHV_VERDICT_REVOKED);
    chv_registrar_close(registrar);
    registrar = NULL;
    CU_ASSERT_EQUAL(start(false, false), CHV_ERR_NOT_FOUND); /* at the first start it is the operator's to mend */
    CU_ASSERT_EQUAL_FATAL(start(false, true), CHV_OK);
    expect("cam2", 1, CHV_VERDICT_REVOKED);
    end();
}

static void write_deny(const char *text)
{
    char path[128], fresh[128];
    snprintf(path, sizeof path, "%s/revoked", folder);
    snprintf(fresh, sizeof fresh, "%s/fresh", folder);
    FILE *f = fopen(fresh, "we");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    fputs(text, f);
    fclose(f);
    CU_ASSERT_EQUAL(rename(fresh, path), 0);
}

static void test_deny_file(void)
{
    begin();
    snprintf(uri, sizeof uri, "revoked:%s/revoked", folder);
    CU_ASSERT_EQUAL_FATAL(start(true, false), CHV_OK); /* there is none */
    expect("cam1", 1, CHV_VERDICT_OK);
    write_deny("cam1 * stolen\n");
    struct chv_registrar_answer a = ask(CHV_REGISTRAR_OPEN, "cam1", 1);
    CU_ASSERT_EQUAL(a.verdict, CHV_VERDICT_REVOKED);
    CU_ASSERT_STRING_EQUAL(a.reason, "stolen");
    CU_ASSERT_STRING_EQUAL(changed, "* ");
    expect("cam2", 1, CHV_VERDICT_OK);
    write_deny("cam1 * stolen\ncam2\n"); /* not a line: what was read before stays */
    expect("cam1", 1, CHV_VERDICT_REVOKED);
    end();
}

TEST_MAIN("registrar", {"answers", test_answers}, {"newer", test_newer}, {"leaked", test_leaked},
          {"a newer credential on its way", test_on_its_way}, {"epochs that are not served", test_unserved},
          {"serials that were not handed out", test_unissued}, {"changes", test_changes},
          {"malformed questions", test_malformed}, {"answers of a packet", test_answers_of_a_packet},
          {"no answers", test_no_answer}, {"away", test_away}, {"snapshot", test_snapshot},
          {"deny file", test_deny_file})
