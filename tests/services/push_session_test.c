/* SPDX-License-Identifier: Apache-2.0 */
/* The server's side of pushes without connections: order, window, claims, what is held. */
#include "services/push_session.h"

#include "tests/services/push_support.h"

struct side {
    struct chv_push_session *session;
    struct chv_files_out out;
    size_t at;
    unsigned woken;
};

static void on_wake(void *arg)
{
    ++*(unsigned *)arg;
}

static void side_open(struct side *s, const struct box *box)
{
    *s = (struct side){.at = 0};
    CU_ASSERT_EQUAL_FATAL(chv_push_session_new(&box->outbox, "cam1", on_wake, &s->woken, &s->session), CHV_OK);
}

static void side_close(struct side *s)
{
    chv_push_session_free(s->session);
    free(s->out.buf);
}

/* The next record's type; -1: there is none. *entry is set for an ENTRY. */
static int next(struct side *s, struct chv_push_entry *entry)
{
    uint8_t type;
    const uint8_t *body;
    size_t len;
    while (!chv_files_out_next(&s->out, &s->at, &type, &body, &len)) {
        s->out.len = s->at = 0;
        if (!chv_push_session_busy(s->session))
            return -1;
        CU_ASSERT_EQUAL_FATAL(chv_push_session_more(s->session, &s->out), CHV_OK);
        CU_ASSERT_FATAL(s->out.len > 0 || !chv_push_session_busy(s->session));
    }
    if (type == CHV_PUSH_ENTRY)
        CU_ASSERT_EQUAL_FATAL(chv_push_entry_decode(body, len, entry), CHV_OK);
    return type;
}

/* Whole entries until something else comes, which is returned. */
static int take(struct side *s, struct chv_push_entry *entries, size_t *n)
{
    *n = 0;
    while (true) {
        int type = next(s, &entries[*n]);
        if (type != CHV_PUSH_ENTRY)
            return type;
        do
            type = next(s, NULL);
        while (type == CHV_RECORD_DATA);
        CU_ASSERT_EQUAL_FATAL(type, CHV_RECORD_END);
        ++*n;
    }
}

static enum chv_err answer(struct side *s, const struct chv_push_entry *entry, unsigned code)
{
    struct chv_push_answer a = {.code = code};
    memcpy(a.id, entry->id, sizeof a.id);
    memcpy(a.sha256, entry->sha256, sizeof a.sha256);
    return chv_push_session_answers(s->session, &a, 1, &s->out);
}

static void test_many_in_order(void)
{
    enum { MANY = 700 }; /* more than one look at the folder finds */
    struct box box;
    struct side side;
    static struct chv_push_entry pushed[MANY], got[MANY + 1];
    box_open(&box);
    for (size_t i = 0; i < MANY; i++)
        pushed[i] = box_push(&box, "name", &i, sizeof i);
    side_open(&side, &box);
    size_t done = 0;
    int type = 0;
    while (done < MANY) {
        size_t n;
        type = take(&side, got + done, &n);
        CU_ASSERT_FATAL(n > 0 && n <= CHV_PUSH_WINDOW);
        for (size_t i = done; i < done + n; i++) {
            CU_ASSERT_EQUAL(memcmp(got[i].id, pushed[i].id, sizeof got[i].id), 0);
            CU_ASSERT_EQUAL(answer(&side, &got[i], 200), CHV_OK);
            CU_ASSERT_EQUAL(next(&side, &got[MANY]), CHV_PUSH_GONE);
            if (done + n < MANY)
                break; /* one answer, one more */
        }
        if (done + n < MANY)
            for (size_t i = done + 1; i < done + n; i++) {
                CU_ASSERT_EQUAL(answer(&side, &got[i], 200), CHV_OK);
                while (next(&side, &got[MANY]) != CHV_PUSH_GONE)
                    CU_FAIL_FATAL("an entry before GONE");
            }
        done += n;
        if (type == CHV_PUSH_IDLE)
            break;
    }
    CU_ASSERT_EQUAL(done, MANY);
    side_close(&side);
    box_close(&box);
}

static void test_two_share(void)
{
    struct box box;
    struct side a, b;
    struct chv_push_entry got[3];
    size_t n;
    box_open(&box);
    side_open(&a, &box);
    side_open(&b, &box);
    const struct chv_push_entry entry = box_push(&box, "name", "12", 2);
    CU_ASSERT_EQUAL(take(&a, got, &n), CHV_PUSH_IDLE);
    CU_ASSERT_EQUAL(n, 1);
    CU_ASSERT_EQUAL(take(&b, got, &n), CHV_PUSH_IDLE);
    CU_ASSERT_EQUAL(n, 0);
    /* What one refuses the other is offered, and who has refused it is not until it may be again. */
    CU_ASSERT_EQUAL(answer(&a, &entry, 409), CHV_OK);
    CU_ASSERT_EQUAL(b.woken, 1);
    chv_push_session_look(a.session, false);
    CU_ASSERT_EQUAL(next(&a, got), -1);
    chv_push_session_look(b.session, false);
    CU_ASSERT_EQUAL(take(&b, got, &n), CHV_PUSH_IDLE);
    CU_ASSERT_EQUAL(n, 1);
    chv_push_session_look(a.session, true);
    CU_ASSERT_EQUAL(take(&a, got, &n), CHV_PUSH_IDLE);
    CU_ASSERT_EQUAL(n, 0);
    side_close(&b); /* it dies */
    CU_ASSERT_EQUAL(a.woken, 1);
    chv_push_session_look(a.session, false);
    CU_ASSERT_EQUAL(take(&a, got, &n), CHV_PUSH_IDLE);
    CU_ASSERT_EQUAL(n, 1);
    CU_ASSERT_EQUAL(answer(&a, &entry, 200), CHV_OK);
    CU_ASSERT_EQUAL(chv_push_entry_open(box.folder, entry.id, got, NULL), ENOENT);
    side_close(&a);
    box_close(&box);
}

static void test_answers(void)
{
    struct box box;
    struct side s;
    struct chv_push_entry got[3], other;
    size_t n;
    box_open(&box);
    side_open(&s, &box);
    const struct chv_push_entry entry = box_push(&box, "name", "12", 2);
    CU_ASSERT_EQUAL(take(&s, got, &n), CHV_PUSH_IDLE);
    other = entry;
    other.sha256[0] ^= 1;
    CU_ASSERT_EQUAL(answer(&s, &other, 200), CHV_ERR_PROTOCOL);
    CU_ASSERT_EQUAL(chv_push_entry_open(box.folder, entry.id, got, NULL), 0);
    side_close(&s);
    /* In a connection that was not offered it: as when the answer was lost. */
    side_open(&s, &box);
    CU_ASSERT_EQUAL(answer(&s, &other, 200), CHV_ERR_PROTOCOL);
    CU_ASSERT_EQUAL(next(&s, got), CHV_PUSH_ENTRY);
    side_close(&s);
    side_open(&s, &box);
    CU_ASSERT_EQUAL(answer(&s, &entry, 200), CHV_OK);
    CU_ASSERT_EQUAL(next(&s, got), CHV_PUSH_GONE);
    CU_ASSERT_EQUAL(answer(&s, &entry, 200), CHV_OK); /* again */
    CU_ASSERT_EQUAL(next(&s, got), CHV_PUSH_GONE);
    CU_ASSERT_EQUAL(answer(&s, &entry, 507), CHV_OK); /* counts for nothing */
    CU_ASSERT_EQUAL(take(&s, got, &n), CHV_PUSH_IDLE);
    CU_ASSERT_EQUAL(n, 0);
    side_close(&s);
    box_close(&box);
}

/* Who refuses everything is offered no more than the server remembers, until that is let go. */
static void test_all_refused(void)
{
    enum { MANY = 1100, KEPT = 1024 + CHV_PUSH_WINDOW }; /* REFUSED_MAX, and what was on its way */
    struct box box;
    struct side s;
    struct chv_push_entry got[CHV_PUSH_WINDOW + 1];
    size_t refused = 0, n = 0;
    bool first = true; /* is taken: what is refused is then no multiple of what one look finds */
    box_open(&box);
    for (size_t i = 0; i < MANY; i++)
        (void)box_push(&box, "name", &i, sizeof i);
    side_open(&s, &box);
    do {
        if (take(&s, got, &n) == CHV_PUSH_GONE)
            (void)take(&s, got, &n);
        for (size_t i = 0; i < n; i++)
            CU_ASSERT_EQUAL(answer(&s, &got[i], i == 0 && first ? 200 : 409), CHV_OK);
        refused += first ? n - 1 : n;
        first = false;
    } while (n > 0);
    CU_ASSERT(refused >= 1024 && refused < KEPT);
    chv_push_session_look(s.session, true);
    (void)take(&s, got, &n);
    CU_ASSERT_EQUAL(n, CHV_PUSH_WINDOW);
    side_close(&s);
    box_close(&box);
}

TEST_MAIN("push_session", {"many, in order", test_many_in_order}, {"two share", test_two_share},
          {"answers", test_answers}, {"all refused", test_all_refused})
