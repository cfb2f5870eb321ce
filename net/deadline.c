/* SPDX-License-Identifier: Apache-2.0 */
/* Deadlines: one list per kind. Its delay is constant, so what is appended last is due last, and every step is O(1). */
#include <string.h>

#include "net/conn_internal.h"

enum { TICK_MS = 500 };

static uint64_t seconds(unsigned s)
{
    return (uint64_t)s * 1000;
}

void chv_deadline_remove(struct chv_conn *conn)
{
    struct chv_deadline_list *list = conn->list;
    if (list == NULL)
        return;
    if (conn->list_prev != NULL)
        conn->list_prev->list_next = conn->list_next;
    else
        list->first = conn->list_next;
    if (conn->list_next != NULL)
        conn->list_next->list_prev = conn->list_prev;
    else
        list->last = conn->list_prev;
    conn->list = NULL;
    conn->list_prev = conn->list_next = NULL;
}

static void append(struct chv_conn *conn, struct chv_deadline_list *list, uint64_t deadline)
{
    chv_deadline_remove(conn);
    conn->list = list;
    conn->list_prev = list->last;
    if (list->last != NULL)
        list->last->list_next = conn;
    else
        list->first = conn;
    list->last = conn;
    conn->deadline = deadline;
}

static unsigned rest_seconds(const struct chv_loop *loop)
{
    unsigned idle = loop->limits.idle_seconds;
    return idle != 0 && idle < CHV_LOOP_REST_SECONDS ? idle : CHV_LOOP_REST_SECONDS;
}

static enum chv_conn_stall stall_of(const struct chv_conn *conn)
{
    const bool patient = conn->duplex && conn->state == CHV_CONN_OPEN && !conn->close_sent; /* its owner is */
    if (conn->unsent.len > 0 && !patient)
        return CHV_STALL_UNSENT;
    if (conn->close_sent || conn->state == CHV_CONN_FLUSHING)
        return CHV_STALL_CLOSING;
    const bool reads = !conn->paused && !conn->held_back && !chv_conn_backed_up(conn);
    return conn->partial.len > 0 && reads ? CHV_STALL_PARTIAL : CHV_STALL_NONE;
}

/* Whether what the deadline of the list `stalled` waits for has happened, so that a new one begins. */
static bool moved_on(const struct chv_conn *conn)
{
    switch (conn->stall) {
    case CHV_STALL_UNSENT:
        return conn->moved >= CHV_CONN_PROGRESS;
    case CHV_STALL_PARTIAL:
        return conn->fresh_record;
    default:
        return false;
    }
}

void chv_deadline_update(struct chv_conn *conn)
{
    struct chv_loop *loop = conn->loop;
    if (conn->state == CHV_CONN_ENDED) {
        chv_deadline_remove(conn);
        return;
    }
    uint64_t now = uv_now(&loop->uv);
    if (!conn->first_record) {
        if (conn->list == NULL && loop->limits.handshake_seconds != 0)
            append(conn, &loop->handshaking, now + seconds(loop->limits.handshake_seconds));
        return;
    }
    enum chv_conn_stall stall = stall_of(conn);
    if (stall != CHV_STALL_NONE) {
        if (conn->list != &loop->stalled || conn->stall != stall || moved_on(conn)) {
            conn->moved = 0;
            append(conn, &loop->stalled, now + seconds(loop->limits.stall_seconds));
        }
    } else if (conn->fresh_record || conn->list == &loop->stalled || conn->list == &loop->handshaking) {
        append(conn, &loop->active, now + seconds(rest_seconds(loop)));
    }
    conn->stall = stall;
    conn->fresh_record = false;
}

static void rest(struct chv_conn *conn)
{
    struct chv_loop *loop = conn->loop;
    chv_session_idle(conn->session);
    if (loop->limits.idle_seconds == 0)
        chv_deadline_remove(conn);
    else
        append(conn, &loop->idle, conn->deadline + seconds(loop->limits.idle_seconds - rest_seconds(loop)));
}

static void too_silent(struct chv_conn *conn)
{
    if (conn->duplex && conn->held_back && conn->state == CHV_CONN_OPEN) { /* what it may have said is not read */
        append(conn, &conn->loop->idle, conn->deadline + seconds(conn->loop->limits.idle_seconds));
        return;
    }
    chv_conn_explain(conn, "silent for %u s", conn->loop->limits.idle_seconds);
    if (!conn->close_sent) {
        enum chv_err sent = chv_conn_send(conn, CHV_RECORD_CLOSE, NULL, 0);
        (void)sent; /* a courtesy: the connection ends either way */
    }
    chv_conn_end(conn, CHV_ERR_TIMEOUT);
}

static void too_slow(struct chv_conn *conn)
{
    static const char *const what[] = {
        [CHV_STALL_NONE] = "made no progress",
        [CHV_STALL_UNSENT] = "did not take what was sent",
        [CHV_STALL_PARTIAL] = "did not finish a record",
        [CHV_STALL_CLOSING] = "did not close its side",
    };
    chv_conn_explain(conn, "the peer %s within %u s", what[conn->stall], conn->loop->limits.stall_seconds);
    chv_conn_finish(conn, CHV_ERR_TIMEOUT);
}

static struct chv_conn *due(const struct chv_deadline_list *list, uint64_t now)
{
    return list->first != NULL && list->first->deadline <= now ? list->first : NULL;
}

static void tick(uv_timer_t *timer)
{
    struct chv_loop *loop = timer->data;
    uint64_t now = uv_now(&loop->uv);
    struct chv_conn *conn;
    while ((conn = due(&loop->handshaking, now)) != NULL) {
        chv_conn_explain(conn,
                         conn->state == CHV_CONN_CONNECTING ? "no connection within %u s" : "no session within %u s",
                         loop->limits.handshake_seconds);
        chv_conn_finish(conn, CHV_ERR_TIMEOUT);
    }
    while ((conn = due(&loop->stalled, now)) != NULL)
        too_slow(conn);
    while ((conn = due(&loop->active, now)) != NULL)
        rest(conn);
    while ((conn = due(&loop->idle, now)) != NULL)
        too_silent(conn);
}

void chv_deadline_start(struct chv_loop *loop)
{
    if (!uv_is_active((uv_handle_t *)&loop->tick))
        (void)uv_timer_start(&loop->tick, tick, TICK_MS, TICK_MS);
}
