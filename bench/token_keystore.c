/* SPDX-License-Identifier: Apache-2.0 */
/*
 * token_keystore [REPETITIONS]: what a master in a token costs the server for each handshake, beside a master in a file,
 * and how long a derivation takes for one client and for a million.  SoftHSM in a folder made and removed here.
 */
#include "base/memory.h"
#include "bench/bench.h"
#include "bench/handshake.h"
#include "core/credential.h"
#include "core/hkdf.h"
#include "tests/support/tokens.h"

#include <chaveiro/keystore.h>

#include <stdio.h>
#include <string.h>

enum { ROUNDS = 40, REPETITIONS = 7, REPETITIONS_MIN = 5, REPETITIONS_MAX = 99 };
enum { CLIENTS = 1000000, CLIENT_STEP = 618033, SAMPLE = 20000 };
enum { STORE_FILE, STORE_TOKEN, STORE_COPY, STORES };

#define AIM 15.0 /* per cent of a handshake's CPU */

static const char master[] = "master:1";

static struct store {
    const char *name;
    struct chv_keystore *ks;
    double net[REPETITIONS_MAX];    /* CPU µs per handshake */
    double keeper[REPETITIONS_MAX]; /* likewise */
} stores[STORES] = {
    [STORE_FILE] = {.name = "file"},
    [STORE_TOKEN] = {.name = "SoftHSM, token key"},
    [STORE_COPY] = {.name = "SoftHSM, session copy"},
};

static struct chv_crypto crypto;
static struct store *current;
static double keeper_us; /* CPU, summed over handshakes */

void require(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "bench/token_keystore: %s failed\n", what);
        exit(EXIT_FAILURE);
    }
}

static void succeed(enum chv_err err, const char *what, const struct chv_why *why)
{
    if (err != CHV_OK) {
        fprintf(stderr, "bench/token_keystore: %s: %s: %s\n", what, chv_err_text(err), why->text);
        exit(EXIT_FAILURE);
    }
}

double cpu_us(void)
{
    return bench_now() * 1e6;
}

void lap(double *start, double *sum)
{
    const double now = cpu_us();
    *sum += now - *start;
    *start = now;
}

/* As long as somebody waits for it. */
static double wall_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

/* ---- keystores ---- */

static enum chv_err give_pin(void *arg, const char *prompt, int confirm, char *out, size_t cap, size_t *len,
                             struct chv_why *why)
{
    (void)arg;
    (void)prompt;
    (void)confirm;
    (void)why;
    if (cap < sizeof TEST_PIN - 1)
        return CHV_ERR_NO_SECRET;
    *len = sizeof TEST_PIN - 1;
    memcpy(out, TEST_PIN, *len);
    return CHV_OK;
}

static struct chv_keystore *open_one(const char *uri, enum chv_keystore_mode mode)
{
    const struct chv_keystore_options options = {.mode = mode, .lock_seconds = 10, .scrypt_n = 1 << 14};
    struct chv_keystore *ks = NULL;
    struct chv_why why = {""};
    succeed(chv_keystore_open(uri, &options, &ks, &why), "open", &why);
    succeed(chv_keystore_unlock(ks, give_pin, NULL, &why), "unlock", &why);
    if (mode == CHV_KEYSTORE_CREATE) {
        succeed(chv_keystore_generate(ks, master, &why), "generate", &why);
        succeed(chv_keystore_commit(ks, &why), "commit", &why);
    }
    return ks;
}

/* Made, closed and opened again to read, as the keeper has it. */
static void open_store(struct store *store, char *uri)
{
    chv_keystore_close(open_one(uri, CHV_KEYSTORE_CREATE));
    store->ks = open_one(uri, CHV_KEYSTORE_READ);
    free(uri);
}

/* How many there are. */
static size_t open_stores(void)
{
    open_store(&stores[STORE_FILE], test_tokens_path("keystore"));
    if (test_softhsm_module() == NULL) {
        printf("SoftHSM is not installed: no token is measured\n");
        return STORE_FILE + 1;
    }
    test_softhsm_token("bench");
    open_store(&stores[STORE_TOKEN], test_softhsm_uri("bench", "plain", ""));
    open_store(&stores[STORE_COPY], test_softhsm_uri("bench", "copied", "&chaveiro-session-copy=yes"));
    return STORES;
}

/* ---- the keeper's part ---- */

static void derive_psk(const uint8_t *credential, size_t credential_len, const uint8_t *h_psk, size_t h_psk_len,
                       uint8_t psk[CHV_SECRET_LEN])
{
    uint8_t access[CHV_INFO_MAX], session[CHV_INFO_MAX];
    size_t access_len, session_len;
    struct chv_why why = {""};
    require(chv_info_access(credential, credential_len, access, &access_len) == CHV_OK &&
                chv_info_session("bench", h_psk, h_psk_len, session, &session_len) == CHV_OK,
            "info");
    succeed(chv_keystore_derive2(current->ks, master, access, access_len, session, session_len, psk, &why), "derive",
            &why);
}

static void answer(const struct chv_key_request *request, uint8_t psk[][CHV_KEY_LEN])
{
    double start = cpu_us();
    for (int i = 0; i < BATCH; i++)
        derive_psk(request[i].credential, request[i].credential_len, request[i].h_psk, request[i].h_psk_len, psk[i]);
    lap(&start, &keeper_us);
}

/* ---- handshakes ---- */

static void measure_handshakes(struct store *store, long repetition)
{
    struct cost cost = {{0}, {0}};
    current = store;
    session_run(&cost); /* caches, and the key is found in the token */
    cost = (struct cost){{0}, {0}};
    keeper_us = 0;
    for (int i = 0; i < ROUNDS; i++)
        session_run(&cost);
    store->net[repetition] = (cost.handshake[SERVER] + cost.setup[SERVER] - keeper_us) / (ROUNDS * BATCH);
    store->keeper[repetition] = keeper_us / (ROUNDS * BATCH);
}

static void print_share(const char *name, double token_us, double whole_us)
{
    const double share = 100 * token_us / whole_us;
    printf("%-42s %5.1f %%   (aim: the token costs less than %.0f %% of a handshake's CPU: %s)\n", name, share, AIM,
           share < AIM ? "met" : "missed");
}

static void print_handshakes(size_t n, size_t repetitions)
{
    double net[STORES], keeper[STORES], whole[STORES];
    char name[64];

    printf("handshakes by keystore: the server's CPU, medians of %zu interleaved repetitions of %d, backend openssl\n",
           repetitions, ROUNDS * BATCH);
    printf("%-26s %8s %10s %8s %14s %8s\n", "us per handshake", "net", "keeper", "sum", "handshakes/s", ": file");
    for (size_t i = 0; i < n; i++) {
        double sums[REPETITIONS_MAX] = {0};
        for (size_t r = 0; r < repetitions; r++)
            sums[r] = stores[i].net[r] + stores[i].keeper[r];
        whole[i] = bench_median(sums, repetitions);
        net[i] = bench_median(stores[i].net, repetitions);
        keeper[i] = bench_median(stores[i].keeper, repetitions);
        printf("%-26s %8.1f %10.1f %8.1f %14.0f %8.2f\n", stores[i].name, net[i], keeper[i], whole[i], 1e6 / whole[i],
               whole[i] / whole[STORE_FILE]);
    }
    for (size_t i = STORE_TOKEN; i < n; i++) {
        (void)snprintf(name, sizeof name, "%s, keeper : sum", stores[i].name);
        print_share(name, keeper[i], whole[i]);
        (void)snprintf(name, sizeof name, "%s, more than file", stores[i].name);
        print_share(name, keeper[i] - keeper[STORE_FILE], whole[i]);
    }
    if (n > STORE_TOKEN)
        printf("everything in the token, not the master alone: bench/token_backend\n");
}

/* ---- derivation, by how many clients there are ---- */

/* One client's key for one session, in µs on the clock. */
static double derive_client(uint32_t client, unsigned session)
{
    struct chv_credential c = {.profile = CHV_PROFILE_PSK, .epoch = 1, .serial = client};
    uint8_t credential[CHV_CREDENTIAL_MAX], h_psk[CHV_KEY_LEN] = {0}, psk[CHV_SECRET_LEN];
    size_t len = sizeof credential;

    (void)snprintf(c.id, sizeof c.id, "client-%07u", (unsigned)client);
    require(chv_credential_add_scope(&c, "message") == CHV_OK && chv_credential_encode(&c, credential, &len) == CHV_OK,
            "credential");
    memcpy(h_psk, &session, sizeof session);
    const double start = wall_us();
    derive_psk(credential, len, h_psk, sizeof h_psk, psk);
    const double took = wall_us() - start;
    chv_wipe(psk, sizeof psk);
    return took;
}

static void measure_clients(size_t n)
{
    static double one[SAMPLE], many[SAMPLE];

    printf("derivation for 1 and for 1 000 000 provisioned clients: us on the clock, medians of %d each, in turns\n",
           SAMPLE);
    printf("%-26s %10s %16s %8s\n", "", "1 client", "of 1 000 000", "ratio");
    for (size_t s = 0; s < n; s++) {
        current = &stores[s];
        (void)derive_client(1, 0);
        for (unsigned i = 0; i < SAMPLE; i++) {
            /* near the golden ratio: spread evenly; no divisor in common with CLIENTS: none comes twice */
            const uint32_t client = 1 + (uint32_t)((uint64_t)i * CLIENT_STEP % CLIENTS);
            one[i] = derive_client(1, i);
            many[i] = derive_client(client, i);
        }
        const double a = bench_median(one, SAMPLE);
        const double b = bench_median(many, SAMPLE);
        printf("%-26s %10.2f %16.2f %8.2f   (aim: 1, nothing is stored per client)\n", current->name, a, b, b / a);
    }
}

int main(int argc, char **argv)
{
    struct chv_why why = {""};
    const long repetitions = argc > 1 ? strtol(argv[1], NULL, 10) : REPETITIONS;

    if (repetitions < REPETITIONS_MIN || repetitions > REPETITIONS_MAX) {
        fprintf(stderr, "usage: token_keystore [REPETITIONS]    %d to %d, default %d\n", REPETITIONS_MIN,
                REPETITIONS_MAX, REPETITIONS);
        return EXIT_FAILURE;
    }
    succeed(chv_backend_open("openssl", &crypto, &why), "backend openssl", &why);
    const size_t n = open_stores();
    session_open(&crypto, "x25519-aesgcm-sha256");
    session_set_keeper(answer);
    for (long r = 0; r < repetitions; r++)
        for (size_t s = 0; s < n; s++)
            measure_handshakes(&stores[s], r);
    session_close();
    print_handshakes(n, (size_t)repetitions);
    putchar('\n');
    measure_clients(n);
    for (size_t s = 0; s < n; s++)
        chv_keystore_close(stores[s].ks);
    chv_backend_close(&crypto);
    return EXIT_SUCCESS;
}
