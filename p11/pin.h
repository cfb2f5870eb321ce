/* SPDX-License-Identifier: Apache-2.0 */
/* PIN files. */
#ifndef CHV_P11_PIN_H
#define CHV_P11_PIN_H

#include <chaveiro/error.h>

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define CHV_P11_PIN_MAX 255 /* bytes of a PIN */

/* Which file it was: a PIN that was wrong is not tried again before this changes. */
struct chv_p11_pin_mark {
    uint64_t device, inode, size;
    struct timespec changed;
};

/*
 * Reads the PIN in the file `path`: regular, owned by the caller or root (root takes any owner's), not open to others (CHV_ERR_STORE_MODE), 1 to
 * CHV_P11_PIN_MAX bytes without a NUL; one line end is taken off.  `out` is the caller's to wipe.  *mark may be NULL.
 */
enum chv_err chv_p11_pin_read(const char *path, char out[CHV_P11_PIN_MAX + 1], size_t *len,
                              struct chv_p11_pin_mark *mark, struct chv_why *why) CHV_MUST_CHECK;

/* The path of a token URI's PIN file; "" if it names none, is no token's, or is longer than `size`. */
void chv_p11_pin_path(const char *uri, char *out, size_t size);

#endif
