/* SPDX-License-Identifier: Apache-2.0 */
/* What the kinds of registry share. */
#ifndef CHV_REGISTRY_INTERNAL_H
#define CHV_REGISTRY_INTERNAL_H

#include "registry/registry.h"

#include <stdio.h>

extern const struct chv_registry_ops chv_registry_sqlite_ops;
extern const struct chv_registry_ops chv_registry_postgresql_ops;
extern const struct chv_registry_ops chv_registry_revoked_ops;

/* What is to be done about one that is not there: made anew it knows nobody who was revoked. */
#define CHV_REGISTRY_MISSING_HELP                                                                                      \
    "if it was lost, put its backup back; if there never was one, 'keyadmin registry new' makes it"

/* The first member of every kind's struct. */
static inline struct chv_registry_head *chv_registry_head(struct chv_registry *r)
{
    return (struct chv_registry_head *)(void *)r;
}

/* Bytes of a text for an error: cut, and what is not printable ASCII as '?'. */
struct chv_registry_shown {
    char text[80];
};
struct chv_registry_shown chv_registry_show(const char *text);

/* Whether `text` is at most `max` bytes of UTF-8 (RFC 3629) without control characters. */
bool chv_registry_text_valid(const char *text, size_t max);

/* "a +b c" of scopes in canonical order, + for one that is held back; the room is enough for every valid client. */
enum { CHV_REGISTRY_SCOPES_TEXT = CHV_SCOPES_MAX * (CHV_SCOPE_MAX + 2) + 1 };
void chv_registry_scopes_format(const struct chv_registry_client *client, char separator,
                                char out[static CHV_REGISTRY_SCOPES_TEXT]);
/* Strict: sorted, none twice, single separators.  False and no scopes otherwise. */
bool chv_registry_scopes_parse(const char *text, char separator, struct chv_registry_client *client);

/* The rules of a row of the audit trail but for n and hash; `why` names the field. */
enum chv_err chv_audit_row_check(const struct chv_audit_row *row, struct chv_why *why) CHV_MUST_CHECK;
/* Sets row->hash from the hash before it. */
enum chv_err chv_audit_row_hash(const struct chv_crypto *crypto, const uint8_t previous[CHV_AUDIT_HASH_LEN],
                                struct chv_audit_row *row) CHV_MUST_CHECK;

/* Whether the reason behind "ID *" in a text file is that of a suspended client; NULL: there is none. */
bool chv_revoked_is_suspended(const char *reason);

/* Writes `path` anew in one step: to PATH.new, fsync, rename, fsync of the folder; mode 0600.  For one writer of that path.
 */
enum chv_err chv_registry_replace_file(const char *path,
                                       enum chv_err (*fill)(void *arg, FILE *out, struct chv_why *why), void *arg,
                                       struct chv_why *why) CHV_MUST_CHECK;

#endif
