/* SPDX-License-Identifier: Apache-2.0 */
/* What bench/handshake measures: two sides of a handshake in one thread, CPU time of each apart. */
#ifndef CHV_BENCH_HANDSHAKE_H
#define CHV_BENCH_HANDSHAKE_H

#include <chaveiro/session.h>

#include <stdbool.h>

/* Handshakes that go step by step together, so that reading the clock (a system call) costs little of each. */
enum { BATCH = 16, CLIENT = 0, SERVER = 1 };

/* CPU µs, summed over handshakes.  Set-up: making and freeing a connection's state. */
struct cost {
    double handshake[2];
    double setup[2];
};

/* A way to shake hands. */
struct subject {
    const char *name;
    void (*open)(const struct chv_crypto *crypto, const char *arg);
    void (*run)(struct cost *cost); /* BATCH handshakes, added to *cost */
    void (*close)(void);
    const char *arg;
};

void noise_open(const struct chv_crypto *crypto, const char *arg);
void noise_run(struct cost *cost);
void noise_close(void);

/* arg: the suite.  Profiles psk, key and key+psk; a session of profile psk that is resumed. */
void session_open(const struct chv_crypto *crypto, const char *arg);
void session_key_open(const struct chv_crypto *crypto, const char *arg);
void session_key_psk_open(const struct chv_crypto *crypto, const char *arg);
void session_resumed_open(const struct chv_crypto *crypto, const char *arg);
void session_run(struct cost *cost);
void session_close(void);
/* Answers the server's questions, BATCH at once; its time counts as the server's.  NULL: a fixed PSK is used. */
typedef void session_keeper(const struct chv_key_request *request, uint8_t psk[][CHV_KEY_LEN]);
void session_set_keeper(session_keeper *keeper);

/* arg: the TLS 1.3 cipher suite. */
void tls_open(const struct chv_crypto *crypto, const char *arg);
void tls_run(struct cost *cost);
void tls_close(void);

/* This thread's CPU time in µs. */
double cpu_us(void);
/* Adds the CPU time since *start to *sum and starts anew. */
void lap(double *start, double *sum);
/* Ends the program if `ok` is false. */
void require(bool ok, const char *what);

#endif
