/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pkcs11_fault.so: a PKCS #11 module for tests that hands every call to the module in $CHV_FAULT_MODULE, and fails, cuts or
 * holds one on demand.  A test finds `chv_fault` by test_fault_module().
 *
 * Programs are told by files in $CHV_FAULT_FOLDER, whatever the process: NAME holds the order for the call NAME,
 * "FIRST TIMES WHAT", from which call on (1 is the first), how many in a row, and what: "hang" (until the order is taken
 * away), the answer, a number, "after=" and a number (the call is made all the same), "short" or "long" (a length that it
 * gives is wrong by one).  NAME.calls has a byte for each call that was made; a test may take it away.  The order "any" is
 * for all calls, and counts while it is there; "token-flags" holds a number that is added to what C_GetTokenInfo says.
 */
#ifndef CHV_TESTS_SUPPORT_PKCS11_FAULT_H
#define CHV_TESTS_SUPPORT_PKCS11_FAULT_H

#include "p11/pkcs11_extra.h"

#include <stdatomic.h>
#include <stdbool.h>

enum chv_fault_mode {
    CHV_FAULT_BEFORE, /* the call is not made, the answer is `rv` */
    CHV_FAULT_AFTER,  /* the call is made, the answer is `rv` all the same: it got lost on the way */
    CHV_FAULT_SHORT,  /* the call is made, a length that it gives is one too small */
    CHV_FAULT_LONG,   /* one too large */
    CHV_FAULT_HANG /* the call waits until a byte can be read from `hang_read`; before, one is written to `hang_write` */
};

struct chv_fault {
    atomic_ulong calls;  /* fallible ones since the test set it to 0 */
    unsigned long first; /* the first that is hit, from 1; 0: none */
    unsigned long times; /* how many in a row are hit */
    atomic_ulong fired;  /* how many were */
    enum chv_fault_mode mode;
    CK_RV rv;
    const char *only;            /* calls of this name only count; NULL: all */
    CK_MECHANISM_TYPE with;      /* of C_DeriveKey and C_WrapKey, those by this mechanism only; 0: all */
    CK_ATTRIBUTE_TYPE attribute; /* of C_GetAttributeValue, those for this attribute only; 0: all */
    int hang_read, hang_write;

    CK_FLAGS token_flags;  /* added to what C_GetTokenInfo says */
    CK_FLAGS made_flags;   /* the same, once C_InitToken was called */
    CK_ULONG max_sessions; /* said and enforced; 0: as the module has it */
    /* C_DeriveKey or C_WrapKey by this mechanism succeeds, whatever the module would say; 0: none */
    CK_MECHANISM_TYPE grant;
    CK_MECHANISM_TYPE
    wrap_only; /* the one mechanism that C_GetMechanismInfo says CKF_WRAP of; 0: as the module has it */
    /*
     * NSS as a token that keeps its keys: what gives a key out is refused, and HKDF and SP 800-108, computed by NSS, give
     * bytes that can be read though the key cannot.
     */
    bool sealed;
    /* counted always */
    atomic_ulong logins, initialised, finalised, open_sessions, most_sessions, made;
};

/* The module's path (static), loaded in front of `real`; *fault is its control. */
const char *test_fault_module(const char *real, struct chv_fault **fault);
/* The n-th call from now fails, once, before it is made. */
void test_fault_arm_call(struct chv_fault *fault, unsigned long n, CK_RV rv);
/* Nothing fails; counters stay. */
void test_fault_disarm(struct chv_fault *fault);

#endif
