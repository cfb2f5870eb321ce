/* SPDX-License-Identifier: Apache-2.0 */
/* What a token answered, in words. */
#ifndef CHV_P11_ERROR_H
#define CHV_P11_ERROR_H

#include "p11/pkcs11_extra.h"

#include <chaveiro/error.h>

#include <stdbool.h>
#include <stddef.h>

/* "no mechanism" for chv_p11_fail. */
#define CHV_P11_NO_MECHANISM (~0UL)

/* "CKR_PIN_INCORRECT"; "CKR_VENDOR_DEFINED" for a vendor's number, "CKR_?" for any other.  Static storage. */
const char *chv_p11_rv_name(CK_RV rv);
/* "CKM_SHA256_HMAC"; "CKM_?" for one that is not used here.  Static storage. */
const char *chv_p11_mechanism_name(CK_MECHANISM_TYPE mechanism);
/* The code that stands for an answer: CHV_OK for CKR_OK only. */
enum chv_err chv_p11_rv_error(CK_RV rv);

/* The session is of no use any more. */
bool chv_p11_rv_session_dead(CK_RV rv);
/* Another session, a new login or a restart of the module may help. */
bool chv_p11_rv_lost(CK_RV rv);

/* Room for what chv_p11_files writes. */
#define CHV_P11_FILES_SIZE 160

/*
 * Which configuration a module of files has, for an error's text: of SoftHSM what SOFTHSM2_CONF says, "" for any other.
 * `where`: a text with the module's path in it.  buf (`size` bytes) or static storage.
 */
const char *chv_p11_files(const char *where, char *buf, size_t size);

/*
 * One line: `where` (token and module), the call, the mechanism if there is one, the CKR_ name, what to do.
 * Returns chv_p11_rv_error(rv).
 */
enum chv_err chv_p11_fail(struct chv_why *why, const char *where, const char *call, CK_MECHANISM_TYPE mechanism,
                          CK_RV rv);

#endif
