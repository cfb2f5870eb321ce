/* SPDX-License-Identifier: Apache-2.0 */
/* What the kinds of keystore share, for keystore/ only. */
#ifndef CHV_KEYSTORE_KEYSTORE_H
#define CHV_KEYSTORE_KEYSTORE_H

#include <chaveiro/keystore.h>

#include <stdbool.h>

/* First member of each kind's own struct. */
struct chv_keystore {
    const struct chv_keystore_ops *ops;
};

/* The grammar of labels; NULL is none. */
bool chv_label_valid(const char *label);

extern const struct chv_keystore_ops chv_keystore_file_ops;
extern const struct chv_keystore_ops chv_keystore_pem_ops;
extern const struct chv_keystore_ops chv_keystore_token_ops;

#endif
