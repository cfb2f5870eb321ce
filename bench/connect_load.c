/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connect_load KEYSTORE PASSPHRASE-FILE: a client of chaveirod on one thread. One job for each line on standard input, one
 * line of answer:
 *
 *   full PORT COUNT FLIGHT TICKETS   full handshake, OPEN of service message that asks for so many tickets, STATUS, TICKETs,
 *                                    CLOSE both ways; FLIGHT at a time: seconds
 *   resumed PORT COUNT FLIGHT        the same by tickets that earlier sessions gave; each asks for its successor: seconds
 *   hold PORT COUNT                  full, without the CLOSE; all stay until the next line: seconds
 */
#include "bench/net.h"

#include "net/client_key.h"
#include "net/control.h"
#include "tools/provision.h"
#include "tools/secret.h"

enum { LINE_LEN = 128, HOLD_FLIGHT = 16, STOCK = 4096, KEPT = 20000, POOL = 64 << 20, SECONDS = 20 };

/* A ticket that was not used yet. */
struct coupon {
    size_t len;
    uint8_t ticket[CHV_TICKET_MAX], secret[CHV_KEY_LEN];
};

static struct chv_loop loop;
static struct chv_client_key key;
static struct coupon stock[STOCK];
static size_t stock_len;
static uint64_t done;
static unsigned tickets; /* that each asks for */
static bool keep;
static struct chv_conn *kept[KEPT];

struct call {
    struct chv_conn *conn;
    unsigned tickets; /* still to come */
    bool opened;
};

static void succeed(enum chv_err err, const char *what, const char *why)
{
    if (err != CHV_OK) {
        fprintf(stderr, "connect_load: %s: %s: %s\n", what, chv_err_text(err), why);
        exit(EXIT_FAILURE);
    }
}

static void on_key(struct chv_conn *conn, const struct chv_key_request *request)
{
    chv_client_key_answer(&key, conn, request);
}

static void on_established(struct chv_conn *conn)
{
    struct chv_open open = {.service = "message", .tickets = tickets};
    uint8_t map[CHV_CONTROL_MAX];
    size_t len = sizeof map;
    succeed(chv_open_instance(&open), "instance", "");
    succeed(chv_open_encode(&open, map, &len), "OPEN", "");
    succeed(chv_conn_send(conn, CHV_RECORD_OPEN, map, len), "OPEN", "");
}

static void take_ticket(struct chv_conn *conn, const uint8_t *body, size_t len)
{
    static struct chv_grant grant;
    succeed(chv_grant_decode(body, len, &grant), "TICKET", "");
    if (stock_len == STOCK)
        return;
    struct coupon *coupon = &stock[stock_len++];
    memcpy(coupon->ticket, grant.ticket, grant.ticket_len);
    coupon->len = grant.ticket_len;
    succeed(chv_session_resumption(chv_conn_session(conn), grant.number, coupon->secret), "resumption", "");
}

static enum chv_err on_record(struct chv_conn *conn, uint8_t type, const uint8_t *body, size_t len)
{
    struct call *call = chv_conn_owner(conn);
    struct chv_status status;
    if (type == CHV_RECORD_STATUS) {
        succeed(chv_status_decode(body, len, &status), "STATUS", "");
        succeed(status.code == 200 ? CHV_OK : CHV_ERR_REFUSED, "STATUS", status.text);
        call->opened = true;
    } else if (type == CHV_RECORD_TICKET) {
        take_ticket(conn, body, len);
        call->tickets--;
    } else {
        return CHV_OK;
    }
    if (!call->opened || call->tickets > 0)
        return CHV_OK;
    if (keep)
        kept[done++] = conn;
    else
        chv_conn_shutdown(conn);
    return CHV_OK;
}

static void on_closed(struct chv_conn *conn, enum chv_err err)
{
    struct call *call = chv_conn_owner(conn);
    if (err != CHV_ERR_CANCELLED)
        succeed(err, "connection", chv_conn_why(conn));
    free(call);
    done++;
}

static const struct chv_conn_events events = {
    .key = on_key, .established = on_established, .record = on_record, .closed = on_closed};

/* By a ticket of the stock, or fully. */
static void start(unsigned port, bool resumed)
{
    struct chv_session_config config;
    struct chv_why why = {""};
    struct call *call = calloc(1, sizeof *call);
    int fd = net_connect(port, 0);
    net_must(call != NULL && fcntl(fd, F_SETFL, O_NONBLOCK) == 0, "connection");
    call->tickets = tickets;
    chv_client_key_config(&key, &config);
    if (resumed) {
        net_must(stock_len > 0, "no tickets");
        const struct coupon *coupon = &stock[--stock_len];
        config.ticket = coupon->ticket;
        config.ticket_len = coupon->len;
        config.resumption = coupon->secret;
        config.server = key.server;
    }
    succeed(chv_conn_start(&loop, fd, "bench", &config, &events, call, &call->conn, &why), "connection", why.text);
}

static void calls(unsigned port, uint64_t count, uint64_t flight, bool resumed)
{
    uint64_t started = 0;
    const uint64_t begin = net_ns();
    done = 0;
    while (done < count) {
        for (; started < count && started - done < flight; started++)
            start(port, resumed);
        uv_run(&loop.uv, UV_RUN_ONCE);
    }
    printf("%.6f\n", (double)(net_ns() - begin) * 1e-9);
    net_must(fflush(stdout) == 0, "standard output");
}

static void hold(unsigned port, uint64_t count)
{
    net_must(count <= KEPT, "too many");
    keep = true;
    calls(port, count, HOLD_FLIGHT, false);
    keep = false;
    (void)alarm(0);
    (void)getchar(); /* an empty line */
    done = 0;
    for (uint64_t i = 0; i < count; i++)
        chv_conn_abort(kept[i], CHV_ERR_CANCELLED);
    while (done < count)
        uv_run(&loop.uv, UV_RUN_ONCE);
    puts("0"); /* all are gone */
    net_must(fflush(stdout) == 0, "standard output");
}

static void open_key(const char *keystore, const char *passphrase)
{
    struct chv_why why = {""};
    static struct chv_secret_source secret;
    const struct chv_provision_store store = {.uri = keystore, .secret = chv_secret_get, .secret_arg = &secret};
    struct chv_keystore *ks;
    secret = chv_secret_source(passphrase, "PASSPHRASE-FILE", NULL);
    succeed(chv_provision_open(&store, CHV_KEYSTORE_READ, &ks, &why), "keystore", why.text);
    succeed(chv_client_key_load(&key, ks, &why), "key", why.text);
    succeed(chv_client_key_ready(&key, &loop.crypto, &why), "key", why.text);
}

int main(int argc, char **argv)
{
    static struct chv_pool pool = {.limit = POOL};
    static const struct chv_loop_limits limits = {.handshake_seconds = SECONDS, .stall_seconds = SECONDS};
    struct chv_why why = {""};
    char line[LINE_LEN], *word;
    uint64_t number[NET_WORDS];
    size_t n;
    if (argc != 3) {
        fprintf(stderr, "usage: connect_load KEYSTORE PASSPHRASE-FILE\n");
        return EXIT_FAILURE;
    }
    net_many_files();
    succeed(chv_loop_init(&loop, "openssl", &pool, &limits, &why), "loop", why.text);
    open_key(argv[1], argv[2]);
    while ((n = net_job(line, sizeof line, &word, number)) > 0) {
        const unsigned port = (unsigned)number[1];
        (void)alarm(SECONDS); /* a server that owes something does not stop the run */
        tickets = (unsigned)number[4];
        if (n == 5 && strcmp(word, "full") == 0) {
            calls(port, number[2], number[3], false);
        } else if (n == 4 && strcmp(word, "resumed") == 0) {
            tickets = 1;
            calls(port, number[2], number[3], true);
        } else if (n == 3 && strcmp(word, "hold") == 0) {
            hold(port, number[2]);
        } else {
            net_must(false, "no such job");
        }
    }
    return EXIT_SUCCESS;
}
