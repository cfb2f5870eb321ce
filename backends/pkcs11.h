/* SPDX-License-Identifier: Apache-2.0 */
/* Session cryptography computed by a PKCS #11 token.  Make and destroy contexts through <chaveiro/backend.h>. */
#ifndef CHV_BACKENDS_PKCS11_H
#define CHV_BACKENDS_PKCS11_H

#include <chaveiro/backend.h>

/*
 * uri: "pkcs11:token=LABEL?module-path=...&pin-source=file:...", as p11/uri.h has it.  With pin-source the context logs
 * in; without it the keys of sessions are objects that need no login, and a token that refuses those is refused.
 * Contexts of one token in one process share its pool of sessions.  Methods block as the token does.
 *
 * Keys are session objects, never stored in the token.  A key whose token was lost and brought back is void: its calls
 * give CHV_ERR_UNAVAILABLE, new keys work.
 */
extern const struct chv_backend chv_backend_pkcs11;

#endif
