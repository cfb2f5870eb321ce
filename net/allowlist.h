/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The allow-list: whose identity keys may come in, as what and for what (chaveirod.conf(5), allowed-keys).  Text in the
 * manner of OpenSSH's authorized_keys, an entry a line:
 *
 *   x25519|p256 BASE64 ID SCOPE[,SCOPE...] [expires=DATE] [comment]
 *
 * '#' begins a line of comment.  DATE is 2027-01-31 (the end of that UTC day) or 2027-01-31T12:00:00Z.
 */
#ifndef CHV_NET_ALLOWLIST_H
#define CHV_NET_ALLOWLIST_H

#include "core/identity.h"

enum {
    CHV_ALLOWLIST_TEXT_MAX = 64 << 20, /* bytes of a file: half a million entries */
    CHV_ALLOWLIST_LINE_MAX = 4096
};

/* One entry; texts are the list's. */
struct chv_allowed {
    struct chv_identity identity;
    unsigned line;      /* of the file, from 1 */
    uint64_t not_after; /* Unix seconds, 0 = never */
    const char *id;
    const char *scopes; /* with commas between them */
};

struct chv_allowlist; /* does not change once it is made; may be read by all threads */

/*
 * Parses `len` bytes (copied).  `file`: what errors call it.  CHV_ERR_CONFIG, and `why` has "FILE:LINE: what is wrong",
 * for a line that is none, a control character, an unknown option, a key that is there twice.  The list has one owner.
 */
enum chv_err chv_allowlist_parse(const char *text, size_t len, const char *file, struct chv_allowlist **list,
                                 struct chv_why *why) CHV_MUST_CHECK;
/* One owner more; one owner less, the last one frees.  NULL is allowed: an empty list. */
struct chv_allowlist *chv_allowlist_ref(struct chv_allowlist *list);
void chv_allowlist_unref(struct chv_allowlist *list);

size_t chv_allowlist_count(const struct chv_allowlist *list);
/* The entry of this key, by binary search; NULL if there is none. */
const struct chv_allowed *chv_allowlist_find(const struct chv_allowlist *list, const struct chv_identity *identity);
/* What an entry grants, as a credential of profile key says it: id, scopes, expiry; epoch and serial are 0. */
void chv_allowed_rights(const struct chv_allowed *entry, struct chv_credential *rights);
/* Cuts a credential's scopes and expiry down to what the entry grants as well. */
void chv_allowed_narrow(const struct chv_allowed *entry, struct chv_credential *credential);

/*
 * Reads the file and parses it; *fd, if not NULL, is a sealed memory file with the same bytes, for another process.
 * CHV_ERR_NOT_FOUND, CHV_ERR_IO; CHV_ERR_STORE_MODE for a file that others than root and this user can write.
 */
enum chv_err chv_allowlist_load(const char *file, struct chv_allowlist **list, int *fd,
                                struct chv_why *why) CHV_MUST_CHECK;
/* The list in such a memory file. */
enum chv_err chv_allowlist_receive(int fd, const char *file, struct chv_allowlist **list,
                                   struct chv_why *why) CHV_MUST_CHECK;

#endif
