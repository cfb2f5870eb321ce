/* SPDX-License-Identifier: Apache-2.0 */
/* What the identity key of a client, and the allow-list, make of its session. */
#include "config.h"

#include "base/memory.h"
#include "core/wire.h"
#include "net/server_internal.h"

#include <string.h>
#include <time.h>

bool chv_server_identity_of(struct chv_conn *conn, struct chv_identity *identity)
{
    struct chv_session_info info;
    const struct chv_suite_parts *parts;
    if (chv_session_get_info(chv_conn_session(conn), &info) != CHV_OK || info.peer_public == NULL ||
        (parts = chv_suite_parts(info.suite)) == NULL)
        return false;
    memset(identity, 0, sizeof *identity);
    identity->curve = parts->curve;
    memcpy(identity->public_key, info.peer_public, info.peer_public_len);
    return true;
}

const char *chv_server_rights(const struct chv_allowlist *allowed, struct chv_conn *conn,
                              const struct chv_session_info *info, struct chv_credential *rights)
{
    struct chv_identity identity;
    if (info->profile == CHV_PROFILE_PSK)
        return NULL;
    const struct chv_allowed *entry =
        chv_server_identity_of(conn, &identity) ? chv_allowlist_find(allowed, &identity) : NULL;
    if (info->profile == CHV_PROFILE_KEY) {
        if (entry == NULL)
            return "this identity key is not in allowed-keys any more";
        chv_allowed_rights(entry, rights);
    } else if (entry != NULL) {
        if (strcmp(entry->id, rights->id) != 0)
            return "the allow-list has this identity key for another client";
        chv_allowed_narrow(entry, rights);
    }
    return NULL;
}

const char *chv_server_rights_now(const struct chv_allowlist *allowed, struct chv_conn *conn,
                                  const struct chv_credential *had)
{
    struct chv_session_info info;
    struct chv_credential now;
    if (chv_session_get_info(chv_conn_session(conn), &info) != CHV_OK || info.profile == CHV_PROFILE_PSK)
        return NULL;
    memset(&now, 0, sizeof now);
    if (info.profile == CHV_PROFILE_KEY_PSK &&
        chv_credential_parse(info.credential, info.credential_len, &now, NULL) != CHV_OK)
        return "credential is not accepted";
    const char *denied = chv_server_rights(allowed, conn, &info, &now);
    if (denied != NULL)
        return denied;
    bool same = strcmp(now.id, had->id) == 0 && (now.not_after == 0 || (time_t)now.not_after > time(NULL));
    for (size_t i = 0; i < had->scope_count; i++)
        same = same && chv_credential_has_scope(&now, had->scopes[i]);
    return same ? NULL : "the allow-list has less rights for this identity key now";
}

bool chv_server_misbound(struct chv_conn *conn)
{
    struct chv_session_info info;
    struct chv_credential claimed;
    struct chv_identity identity;
    uint8_t hash[CHV_IDENTITY_HASH_LEN];
    return chv_session_get_info(chv_conn_session(conn), &info) == CHV_OK && info.profile == CHV_PROFILE_KEY_PSK &&
           chv_server_identity_of(conn, &identity) &&
           chv_credential_parse(info.credential, info.credential_len, &claimed, NULL) == CHV_OK &&
           chv_identity_hash(&chv_conn_loop(conn)->crypto, identity.curve, identity.public_key, hash) == CHV_OK &&
           !chv_equal(hash, claimed.identity_hash, sizeof hash);
}
