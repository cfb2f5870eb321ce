/* SPDX-License-Identifier: Apache-2.0 */
/*
 * token_backend [SPEC...]: the backend "pkcs11" beside OpenSSL: what a token costs that computes all of a session, and
 * what its use leaves in memory.  Without arguments: SoftHSM and NSS, each in a folder made and removed here.
 */
#include "bench/bench.h"
#include "bench/handshake.h"
#include "tests/support/tokens.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RECORD = 16384 };

#define SECONDS 0.5

static struct chv_crypto crypto;

void require(bool ok, const char *what)
{
    struct chv_backend_health health = {.last = ""};
    if (ok)
        return;
    if (crypto.backend != NULL)
        chv_crypto_health(&crypto, &health);
    fprintf(stderr, "bench/token_backend: %s failed: %s\n", what, health.last);
    exit(EXIT_FAILURE);
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

/* Bytes of this process that are in memory: the second number of /proc/self/statm, in pages. */
static double resident(void)
{
    char line[128] = "";
    char *rest = line;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f == NULL || fgets(line, sizeof line, f) == NULL)
        line[0] = '\0';
    if (f != NULL)
        fclose(f);
    (void)strtoul(line, &rest, 10);
    return (double)strtoul(rest, NULL, 10) * (double)sysconf(_SC_PAGESIZE);
}

/* ---- what is measured: each does BATCH of it ---- */

static void do_hmac(void)
{
    uint8_t key[CHV_HASH_MAX] = {1};
    const struct chv_part part = {"a message of thirty-two bytes...", 32};
    for (int i = 0; i < BATCH; i++)
        require(chv_crypto_hmac(&crypto, CHV_HASH_SHA256, key, CHV_KEY_LEN, &part, 1, key) == CHV_OK, "HMAC");
}

static void do_dh(enum chv_curve curve)
{
    uint8_t public_key[CHV_DH_PUBLIC_MAX];
    uint8_t shared[CHV_KEY_LEN];
    for (int i = 0; i < BATCH; i++) {
        struct chv_dh *key;
        require(chv_crypto_dh_generate(&crypto, curve, &key, public_key) == CHV_OK, "key pair");
        require(chv_crypto_dh_derive(&crypto, key, public_key, shared) == CHV_OK, "agreement");
        chv_crypto_dh_free(&crypto, key);
    }
}

static void do_x25519(void)
{
    do_dh(CHV_CURVE_25519);
}

static void do_p256(void)
{
    do_dh(CHV_CURVE_P256);
}

static void do_records(void)
{
    static uint8_t buf[RECORD + CHV_AEAD_TAG_LEN];
    static const uint8_t key[CHV_KEY_LEN] = {1};
    uint8_t nonce[CHV_AEAD_NONCE_LEN] = {0};
    struct chv_aead *aead;
    require(chv_crypto_aead_new(&crypto, CHV_AEAD_AES256GCM, key, &aead) == CHV_OK, "AEAD key");
    for (int i = 0; i < BATCH; i++) {
        nonce[0] = (uint8_t)i;
        require(chv_crypto_aead_seal(&crypto, aead, nonce, NULL, 0, buf, RECORD, buf) == CHV_OK, "seal");
        require(chv_crypto_aead_open(&crypto, aead, nonce, NULL, 0, buf, sizeof buf, buf) == CHV_OK, "open");
    }
    chv_crypto_aead_free(&crypto, aead);
}

static struct cost cost;

static void do_sessions(void)
{
    session_run(&cost);
}

/* µs of CPU for one, and bytes that each left behind. */
static void measure(const char *what, void (*run)(void), uint32_t needs, double per_batch)
{
    if ((crypto.capabilities & needs) != needs) {
        printf("  %-44s %10s\n", what, "-");
        return;
    }
    run();
    double before = resident();
    double start = bench_now();
    double took;
    unsigned long done = 0;
    do {
        run();
        done++;
        took = bench_now() - start;
    } while (took < SECONDS);
    double each = (double)done * per_batch;
    printf("  %-44s %10.1f us %10.0f /s %8.0f bytes\n", what, took * 1e6 / each, each / took,
           (resident() - before) / each);
}

static void measure_sessions(const char *suite, uint32_t needs)
{
    char what[64];
    (void)snprintf(what, sizeof what, "session %s, both sides", suite);
    cost = (struct cost){{0}, {0}};
    if ((crypto.capabilities & needs) == needs)
        session_open(&crypto, suite);
    measure(what, do_sessions, needs, BATCH);
    if ((crypto.capabilities & needs) == needs) {
        double sum = cost.handshake[CLIENT] + cost.handshake[SERVER] + cost.setup[CLIENT] + cost.setup[SERVER];
        printf("  %-44s %9.0f %%\n", "  the server's part", 100 * (cost.handshake[SERVER] + cost.setup[SERVER]) / sum);
        session_close();
    }
}

static void run_here(const char *spec)
{
    const uint32_t base = CHV_CAP_HASH(CHV_HASH_SHA256) | CHV_CAP_AEAD(CHV_AEAD_AES256GCM);
    struct chv_why why = {{0}};
    double start = bench_now();
    if (chv_backend_open(spec, &crypto, &why) != CHV_OK) {
        fprintf(stderr, "bench/token_backend: %s: %s\n", spec, why.text);
        exit(EXIT_FAILURE);
    }
    printf("%.100s\n  %-44s %10.1f us\n", spec, "open, with self-test", (bench_now() - start) * 1e6);
    measure("HMAC-SHA256, new key", do_hmac, base, BATCH);
    measure("X25519 key pair + agreement", do_x25519, CHV_CAP_CURVE(CHV_CURVE_25519), BATCH);
    measure("P-256 key pair + agreement", do_p256, CHV_CAP_CURVE(CHV_CURVE_P256), BATCH);
    measure("AES-256-GCM record of 16 KiB, seal + open", do_records, base, BATCH);
    measure_sessions("x25519-aesgcm-sha256", base | CHV_CAP_CURVE(CHV_CURVE_25519));
    measure_sessions("p256-aesgcm-sha256", base | CHV_CAP_CURVE(CHV_CURVE_P256));
    chv_backend_close(&crypto);
}

/* In a process of its own: what one module left behind would be used by the next. */
static void run_spec(const char *spec)
{
    int status = 0;
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        run_here(spec);
        (void)fflush(stdout);
        _exit(EXIT_SUCCESS);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
        exit(EXIT_FAILURE);
}

int main(int argc, char **argv)
{
    printf("backend pkcs11: CPU time of each, and what it leaves behind in memory\n");
    for (int i = 1; i < argc; i++)
        run_spec(argv[i]);
    if (argc > 1)
        return EXIT_SUCCESS;
    run_spec("openssl");
    if (test_softhsm_module() != NULL) {
        test_softhsm_token("bench");
        char *uri = test_softhsm_uri("bench", "", "");
        run_spec(uri);
        free(uri);
        char *pin = test_tokens_path("pin");
        char *query = test_format("&pin-source=file:%s", pin);
        test_write_private(pin, TEST_PIN);
        uri = test_softhsm_uri("bench", "", query);
        run_spec(uri);
        free(uri);
        free(query);
        free(pin);
    }
    if (test_nss_module() != NULL) {
        char *uri = test_format("pkcs11:token=NSS%%20Generic%%20Crypto%%20Services?module-path=%s&chaveiro-init="
                                "configdir%%3D%%27%%27%%20flags%%3DnoCertDB%%2CnoModDB%%2CreadOnly",
                                test_nss_module());
        run_spec(uri);
        free(uri);
    }
    return EXIT_SUCCESS;
}
