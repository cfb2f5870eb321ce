/* SPDX-License-Identifier: Apache-2.0 */
/* chaveiro ping: how long things take, and what the server says about itself. */
#include "tools/chaveiro.h"

#include <stdlib.h>
#include <sysexits.h>

#include "base/encode.h"
#include "tools/times.h"

enum { PING_DEFAULT = 3, PING_MAX = 10000 };

struct ping_state {
    uint64_t count, done;
    uint64_t *microseconds; /* count of them */
    json_t *result;
};

static double ping_milliseconds(uint64_t microseconds)
{
    return (double)microseconds / 1000.0;
}

static void ping_next(struct chaveiro_link *link)
{
    enum chv_err err = chv_message_ping(link->message);
    if (err != CHV_OK)
        chaveiro_fail_why(link, err, NULL);
    else
        chaveiro_due(link, true);
}

/* What the handshake told. */
static void ping_describe(struct chaveiro_link *link, json_t *o, const char *check, uint64_t connect_us)
{
    char lineage[CHV_HEX_SIZE(CHV_LINEAGE_LEN)] = "", when[CHV_TIME_TEXT];
    struct chv_session_info info = {.lineage = NULL};
    struct chv_conn *conn = chv_message_conn(link->message);
    if (chv_session_get_info(chv_conn_session(conn), &info) != CHV_OK)
        return;
    if (info.lineage != NULL)
        chv_hex_encode(info.lineage, CHV_LINEAGE_LEN, lineage);
    chv_time_format(info.server_time, when);
    const bool credential = info.profile != CHV_PROFILE_KEY;
    char print[CHV_FINGERPRINT_MAX];
    if (link->key.server[0] != '\0')
        (void)json_object_set_new(o, "server", json_string(link->key.server));
    (void)json_object_set_new(o, "address", json_string(link->address));
    if (credential)
        (void)json_object_set_new(o, "client", json_string(link->key.parsed.id));
    if (credential)
        (void)json_object_set_new(o, "key_check", json_string(check));
    if (info.profile != CHV_PROFILE_PSK) {
        (void)json_object_set_new(o, "identity", json_string(chaveiro_fingerprint(link, &link->key.identity, print)));
        (void)json_object_set_new(o, "server_identity",
                                  json_string(chaveiro_fingerprint(link, &link->key.server_key, print)));
    }
    (void)json_object_set_new(o, "profile", json_string(chv_profile_name(info.profile)));
    (void)json_object_set_new(o, "suite", json_string(chv_suite_name(info.suite)));
    if (credential) {
        (void)json_object_set_new(o, "epoch", json_integer(link->key.parsed.epoch));
        (void)json_object_set_new(o, "serial", json_integer(link->key.parsed.serial));
    }
    (void)json_object_set_new(o, "lineage", json_string(lineage));
    (void)json_object_set_new(o, "server_time", json_string(when));
    (void)json_object_set_new(o, "idle_limit_s", json_integer(info.idle_seconds));
    (void)json_object_set_new(o, "server_said", json_string(chv_message_greeting(link->message)));
    (void)json_object_set_new(o, "connect_ms", json_real(ping_milliseconds(connect_us)));
}

static void ping_ready(struct chaveiro_link *link)
{
    struct ping_state *state = link->state;
    struct chv_why why = {""};
    char check[2 * 4 + 1];
    uint64_t connect_us = (uv_hrtime() - link->started) / 1000;
    enum chv_err err = chaveiro_key_check(link, check, &why);
    state->result = json_object();
    if (err == CHV_OK && state->result == NULL)
        err = CHV_ERR_MEMORY;
    if (err != CHV_OK) {
        chaveiro_fail_why(link, err, &why);
        return;
    }
    ping_describe(link, state->result, check, connect_us);
    ping_next(link);
}

static void ping_print(struct chaveiro_link *link)
{
    struct ping_state *state = link->state;
    uint64_t least = UINT64_MAX, most = 0, sum = 0;
    json_t *times = json_array();
    for (uint64_t i = 0; i < state->count; i++) {
        uint64_t us = state->microseconds[i];
        least = us < least ? us : least;
        most = us > most ? us : most;
        sum += us;
        (void)json_array_append_new(times, json_real(ping_milliseconds(us)));
    }
    (void)json_object_set_new(state->result, "round_trips_ms", times);
    (void)json_object_set_new(state->result, "least_ms", json_real(ping_milliseconds(least)));
    (void)json_object_set_new(state->result, "mean_ms", json_real(ping_milliseconds(sum) / (double)state->count));
    (void)json_object_set_new(state->result, "most_ms", json_real(ping_milliseconds(most)));
    chv_cli_print(json_incref(state->result), chv_cli_given(link->args, "json"));
}

static void ping_pong(struct chaveiro_link *link, uint64_t microseconds)
{
    struct ping_state *state = link->state;
    if (state->done < state->count)
        state->microseconds[state->done++] = microseconds;
    if (state->done < state->count) {
        ping_next(link);
        return;
    }
    ping_print(link);
    chaveiro_finish(link);
}

static const struct chaveiro_job ping_job = {.ready = ping_ready, .pong = ping_pong};

int chaveiro_ping(const struct chv_cli_args *args)
{
    struct chv_why why = {""};
    struct ping_state state = {.count = 0};
    enum chv_err err = chv_cli_number(args, "count", 1, PING_MAX, PING_DEFAULT, &state.count, &why);
    if (err != CHV_OK)
        return chv_cli_why(err, &why);
    state.microseconds = calloc((size_t)state.count, sizeof *state.microseconds);
    if (state.microseconds == NULL)
        return chv_cli_why(CHV_ERR_MEMORY, NULL);
    int code = chaveiro_run(args, &ping_job, &state);
    json_decref(state.result);
    free(state.microseconds);
    return code;
}
