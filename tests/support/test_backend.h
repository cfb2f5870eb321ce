/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Backends for tests, each around an open chv_crypto that must outlive it.  Give `.crypto` to the code under test; it
 * points back into the struct, which must therefore not be moved.  There is nothing to close.
 *
 *     struct chv_crypto real;
 *     chv_backend_open("openssl", &real, NULL);
 *     struct test_fault fault;
 *     test_fault_init(&fault, &real);
 *     for (unsigned n = 1;; n++) {
 *         test_fault_arm(&fault, n);
 *         enum chv_err err = code_under_test(&fault.crypto);
 *         CU_ASSERT_EQUAL(fault.open_dh + fault.open_aead, 0);
 *         if (!fault.fired)
 *             break;
 *     }
 *
 * They nest: a test_fault around a test_fixed's crypto fails calls of a handshake with known ephemerals.
 */
#ifndef CHV_TESTS_SUPPORT_TEST_BACKEND_H
#define CHV_TESTS_SUPPORT_TEST_BACKEND_H

#include <chaveiro/backend.h>

#include <stdbool.h>

/* Fails one call and counts handles. */
struct test_fault {
    struct chv_crypto crypto;
    const struct chv_crypto *inner;
    unsigned long calls;   /* fallible calls since test_fault_arm */
    unsigned long fail_at; /* which of them fails, counted from 1; 0: none */
    enum chv_err fail_with;
    bool fired;       /* the failure has happened */
    size_t open_dh;   /* handles not freed yet */
    size_t open_aead; /* the same */
};

void test_fault_init(struct test_fault *fault, const struct chv_crypto *inner);
/* Counts from anew; the n-th fallible call (n >= 1) fails once with CHV_ERR_CRYPTO, n = 0: none. */
void test_fault_arm(struct test_fault *fault, unsigned long n);

/* dh_generate imports private keys from a list, in order; CHV_ERR_CRYPTO when the list is used up. */
struct test_fixed {
    struct chv_crypto crypto;
    struct chv_backend vtable;
    const struct chv_crypto *inner;
    const uint8_t (*keys)[CHV_DH_PRIVATE_LEN];
    size_t count;
    size_t next; /* keys given out; may be set back to 0 */
};

/* `keys` is kept, not copied. */
void test_fixed_init(struct test_fixed *fixed, const struct chv_crypto *inner,
                     const uint8_t (*keys)[CHV_DH_PRIVATE_LEN], size_t count);

#endif
