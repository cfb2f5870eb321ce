/* SPDX-License-Identifier: Apache-2.0 */
/* Receipts (net/receipt.h) in files: FILE is the statement, FILE.sig its signature in DER, as openssl(1) takes them. */
#ifndef CHV_TOOLS_RECEIPT_H
#define CHV_TOOLS_RECEIPT_H

#include "core/identity.h"
#include "net/receipt.h"

#define CHV_RECEIPT_SIGNATURE_SUFFIX ".sig"

struct chv_receipt_signed {
    char text[CHV_RECEIPT_MAX + 1]; /* with a NUL */
    size_t text_len;
    uint8_t signature[CHV_SIGNATURE_MAX];
    size_t signature_len;
};

/*
 * The fields of the statement, and whether `key` signed it (NULL: not looked at).  CHV_ERR_DAMAGED: it is no receipt, or
 * that key did not sign it; CHV_ERR_ARGUMENT: the key is none for receipts.
 */
enum chv_err chv_receipt_open(const struct chv_receipt_signed *sealed, const struct chv_identity *key,
                              struct chv_receipt *receipt, struct chv_why *why) CHV_MUST_CHECK;
/* Reads both files.  CHV_ERR_NOT_FOUND, CHV_ERR_IO, CHV_ERR_DAMAGED: longer than a receipt is. */
enum chv_err chv_receipt_read(const char *file, struct chv_receipt_signed *sealed, struct chv_why *why) CHV_MUST_CHECK;
/* CHV_ERR_EXISTS if one of the two is there; CHV_ERR_ARGUMENT: the name is too long. */
enum chv_err chv_receipt_absent(const char *file, struct chv_why *why) CHV_MUST_CHECK;
/*
 * Writes both, mode 0644, each whole or not at all, and the signature first: where FILE is, its signature is.  Nothing is
 * overwritten (CHV_ERR_EXISTS).  Durable before this returns.
 */
enum chv_err chv_receipt_write(const char *file, const struct chv_receipt_signed *sealed,
                               struct chv_why *why) CHV_MUST_CHECK;

#endif
