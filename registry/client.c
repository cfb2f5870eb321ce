/* SPDX-License-Identifier: Apache-2.0 */
/* What a well-formed client is, and whether it may come in. */
#include "registry/internal.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"

int chv_issue_compare(struct chv_issue a, struct chv_issue b)
{
    if (a.epoch != b.epoch)
        return a.epoch < b.epoch ? -1 : 1;
    return a.serial == b.serial ? 0 : a.serial < b.serial ? -1 : 1;
}

static const char *const status_names[] = {"malformed", "active", "suspended", "revoked", "removed"};
enum { STATUS_COUNT = sizeof status_names / sizeof status_names[0] };

const char *chv_client_status_name(enum chv_client_status status)
{
    return (unsigned)status < STATUS_COUNT ? status_names[status] : "?";
}

enum chv_err chv_client_status_parse(const char *name, enum chv_client_status *status)
{
    for (unsigned i = CHV_CLIENT_ACTIVE; i < STATUS_COUNT; i++)
        if (strcmp(name, status_names[i]) == 0) {
            *status = (enum chv_client_status)i;
            return CHV_OK;
        }
    return CHV_ERR_ARGUMENT;
}

const char *chv_epoch_status_name(enum chv_epoch_status status)
{
    static const char *const names[] = {"?", "active", "retired", "compromised"};
    return (unsigned)status < sizeof names / sizeof names[0] ? names[status] : "?";
}

struct chv_registry_shown chv_registry_show(const char *text)
{
    struct chv_registry_shown shown;
    (void)snprintf(shown.text, sizeof shown.text, "%.79s", text);
    for (char *c = shown.text; *c != '\0'; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
    return shown;
}

/* Bytes of the UTF-8 character at `s`, 0 if it is none or a control character (RFC 3629, section 4; ISO 6429). */
static size_t utf8_len(const unsigned char *s)
{
    if (s[0] < 0x80)
        return s[0] >= 0x20 && s[0] != 0x7f;
    size_t n = s[0] >= 0xc2 && s[0] <= 0xdf   ? 2
               : s[0] >= 0xe0 && s[0] <= 0xef ? 3
               : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
                                              : 0;
    for (size_t i = 1; i < n; i++)
        if (s[i] < 0x80 || s[i] > 0xbf) /* also the NUL at the end */
            return 0;
    if ((s[0] == 0xc2 && s[1] < 0xa0) || (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

bool chv_registry_text_valid(const char *text, size_t max)
{
    size_t len = strnlen(text, max + 1);
    if (len > max)
        return false;
    const unsigned char *s = (const unsigned char *)text;
    while (*s != '\0') {
        size_t n = utf8_len(s);
        if (n == 0)
            return false;
        s += n;
    }
    return true;
}

enum chv_err chv_registry_client_add_scope(struct chv_registry_client *client, const char *scope)
{
    if (!chv_scope_valid(scope))
        return CHV_ERR_ARGUMENT;
    size_t at = 0;
    while (at < client->scope_count && strcmp(client->scopes[at], scope) < 0)
        at++;
    if (at < client->scope_count && strcmp(client->scopes[at], scope) == 0)
        return CHV_OK;
    if (client->scope_count >= CHV_SCOPES_MAX)
        return CHV_ERR_SPACE;
    memmove(client->scopes[at + 1], client->scopes[at], (client->scope_count - at) * sizeof client->scopes[0]);
    memmove(client->held + at + 1, client->held + at, client->scope_count - at);
    client->held[at] = false;
    memset(client->scopes[at], 0, sizeof client->scopes[at]);
    memcpy(client->scopes[at], scope, strlen(scope));
    client->scope_count++;
    return CHV_OK;
}

/* In front of a scope's name, which cannot have it. */
static const char scope_held = '+';

bool chv_registry_client_has_scope(const struct chv_registry_client *client, const char *scope, bool *held)
{
    for (size_t i = 0; i < client->scope_count; i++)
        if (strcmp(client->scopes[i], scope) == 0) {
            if (held != NULL)
                *held = client->held[i];
            return true;
        }
    return false;
}

void chv_registry_client_release(struct chv_registry_client *client, struct chv_issue issue)
{
    size_t kept = 0;
    /* by the serial alone: a key update in band hands the same one on into the next epoch, with the rights it had */
    if (client->profile == CHV_PROFILE_KEY || issue.serial >= client->latest.serial)
        return;
    for (size_t i = 0; i < client->scope_count; i++)
        if (!client->held[i])
            memmove(client->scopes[kept++], client->scopes[i], sizeof client->scopes[0]);
    memset(client->scopes + kept, 0, (client->scope_count - kept) * sizeof client->scopes[0]);
    memset(client->held, 0, sizeof client->held);
    client->scope_count = kept;
}

void chv_registry_scopes_format(const struct chv_registry_client *client, char separator,
                                char out[static CHV_REGISTRY_SCOPES_TEXT])
{
    size_t at = 0;
    for (size_t i = 0; i < client->scope_count && i < CHV_SCOPES_MAX; i++) {
        size_t len = strnlen(client->scopes[i], CHV_SCOPE_MAX);
        if (i > 0)
            out[at++] = separator;
        if (client->held[i])
            out[at++] = scope_held;
        memcpy(out + at, client->scopes[i], len);
        at += len;
    }
    out[at] = '\0';
}

bool chv_registry_scopes_parse(const char *text, char separator, struct chv_registry_client *client)
{
    client->scope_count = 0;
    memset(client->scopes, 0, sizeof client->scopes);
    memset(client->held, 0, sizeof client->held);
    if (text[0] == '\0')
        return true;
    for (size_t n = 0; n < CHV_SCOPES_MAX; n++) {
        client->held[n] = text[0] == scope_held;
        text += client->held[n];
        const char *end = strchrnul(text, separator);
        size_t len = (size_t)(end - text);
        if (len > CHV_SCOPE_MAX)
            return false;
        memcpy(client->scopes[n], text, len);
        if (!chv_scope_valid(client->scopes[n]) || (n > 0 && strcmp(client->scopes[n - 1], client->scopes[n]) >= 0))
            return false;
        if (*end == '\0') {
            client->scope_count = n + 1;
            return true;
        }
        text = end + 1;
    }
    return false;
}

static bool scopes_valid(const struct chv_registry_client *c)
{
    if (c->scope_count > CHV_SCOPES_MAX)
        return false;
    for (size_t i = 0; i < c->scope_count; i++)
        if (!chv_scope_valid(c->scopes[i]) || (i > 0 && strcmp(c->scopes[i - 1], c->scopes[i]) >= 0) ||
            (c->held[i] && c->profile == CHV_PROFILE_KEY))
            return false;
    return true;
}

/* {0, 0}, or both from 1. */
static bool issue_valid(struct chv_issue issue)
{
    return (issue.epoch == 0) == (issue.serial == 0);
}

static bool identity_valid(const struct chv_registry_client *c)
{
    if (!c->has_identity)
        return c->profile != CHV_PROFILE_KEY || c->status == CHV_CLIENT_REMOVED;
    if (c->identity_curve != CHV_CURVE_25519 && c->identity_curve != CHV_CURVE_P256)
        return false;
    size_t len = chv_dh_public_len(c->identity_curve);
    return !chv_is_zero(c->identity, len) && chv_is_zero(c->identity + len, sizeof c->identity - len) &&
           (c->identity_curve != CHV_CURVE_P256 || c->identity[0] == 4); /* SEC 1, 2.3.3: uncompressed */
}

/* The field that is wrong, or NULL. */
static const char *wrong_field(const struct chv_registry_client *c)
{
    if (!chv_client_id_valid(c->id))
        return "id";
    if (c->status < CHV_CLIENT_ACTIVE || c->status > CHV_CLIENT_REMOVED)
        return "status";
    if (c->profile != CHV_PROFILE_PSK && c->profile != CHV_PROFILE_KEY && c->profile != CHV_PROFILE_KEY_PSK)
        return "profile";
    if ((c->flags & ~(unsigned)(CHV_CLIENT_NO_UPDATE | CHV_CLIENT_NARROWED | CHV_CLIENT_PENDING | CHV_CLIENT_REPLACED |
                                CHV_CLIENT_NARROWED_OLD)) != 0)
        return "flags";
    if (!issue_valid(c->minimum))
        return "minimum";
    if (!issue_valid(c->confirmed))
        return "confirmed";
    /* profile key has no credential (but may have had one before); the others have been given one */
    if (!issue_valid(c->latest) || (c->latest.serial == 0 && c->profile != CHV_PROFILE_KEY))
        return "latest";
    if (c->not_after > INT64_MAX)
        return "not_after";
    if (!scopes_valid(c))
        return "scopes";
    if (!identity_valid(c))
        return "identity";
    if (!chv_registry_text_valid(c->reason, CHV_REGISTRY_REASON_MAX))
        return "reason";
    if (c->created > INT64_MAX || c->last_seen > INT64_MAX || c->changed > INT64_MAX)
        return "times";
    return NULL;
}

enum chv_err chv_registry_client_check(const struct chv_registry_client *client, struct chv_why *why)
{
    const char *field = wrong_field(client);
    if (field == NULL)
        return CHV_OK;
    char id[CHV_CLIENT_ID_MAX + 1] = {0};
    memcpy(id, client->id, strnlen(client->id, CHV_CLIENT_ID_MAX));
    return chv_fail(why, CHV_ERR_ARGUMENT, "client '%s': bad %s", chv_registry_show(id).text, field);
}

bool chv_registry_client_confirm(struct chv_registry_client *client, struct chv_issue issue)
{
    const bool raised = chv_issue_compare(issue, client->minimum) > 0;
    const bool in_place = (client->flags & CHV_CLIENT_NO_UPDATE) != 0 && chv_issue_compare(issue, client->minimum) >= 0;
    client->confirmed = issue;
    if (raised) {
        client->minimum = issue;
        client->flags &= ~(unsigned)CHV_CLIENT_REPLACED;
    }
    if (in_place) { /* the leaked one is denied by the minimum, also what is still connected with it */
        client->flags &= ~(unsigned)CHV_CLIENT_NO_UPDATE;
        client->flags |= CHV_CLIENT_REPLACED;
    }
    if (issue.serial >= client->latest.serial) { /* what came before it is denied */
        memset(client->held, 0, sizeof client->held);
        client->flags &= ~(unsigned)CHV_CLIENT_NARROWED_OLD;
    }
    if (chv_issue_compare(issue, client->latest) > 0) {
        /* its serial stays what it is where only the epoch is newer: serials never go back */
        client->latest.epoch = issue.epoch;
        if (issue.serial > client->latest.serial)
            client->latest.serial = issue.serial;
    }
    return raised || in_place;
}

enum chv_err chv_registry_next_serial(const struct chv_registry_client *client, uint32_t *serial, struct chv_why *why)
{
    if (client->latest.serial == UINT32_MAX)
        return chv_fail(why, CHV_ERR_EXHAUSTED, "client '%s': its serials are used up: give it another id", client->id);
    *serial = client->latest.serial + 1;
    return CHV_OK;
}

const char *chv_verdict_text(enum chv_verdict verdict)
{
    static const char *const texts[] = {
        [CHV_VERDICT_OK] = "ok",
        [CHV_VERDICT_UNKNOWN] = "client is not registered",
        [CHV_VERDICT_SUSPENDED] = "client is suspended",
        [CHV_VERDICT_REVOKED] = "client is revoked",
        [CHV_VERDICT_REMOVED] = "client was removed",
        [CHV_VERDICT_SUPERSEDED] = "credential is superseded by a newer one",
        [CHV_VERDICT_CLONE] = "credential is older than one that was used already",
        [CHV_VERDICT_EXPIRED] = "client has expired",
        [CHV_VERDICT_PROFILE] = "client is registered for another profile",
        [CHV_VERDICT_IDENTITY] = "identity key is not this client's",
        [CHV_VERDICT_MALFORMED] = "client cannot be checked",
        [CHV_VERDICT_EPOCH] = "credential is of an epoch whose master leaked",
    };
    return (unsigned)verdict < CHV_VERDICT_COUNT ? texts[verdict] : "?";
}

static bool same_identity(const struct chv_registry_client *c, const struct chv_registry_claim *claim)
{
    return c->identity_curve == claim->identity_curve &&
           memcmp(c->identity, claim->identity, chv_dh_public_len(c->identity_curve)) == 0;
}

/*
 * What a credential is bound to is in it, and proven by the time that it comes here: the row has the key of the latest one,
 * and those before it, which are taken until that was used, may be bound to another.
 */
static bool has_wrong_identity(const struct chv_registry_client *c, const struct chv_registry_claim *claim)
{
    const bool older = claim->profile == CHV_PROFILE_KEY_PSK && claim->issue.serial < c->latest.serial;
    return claim->has_identity && c->has_identity && !older && !same_identity(c, claim);
}

enum chv_verdict chv_registry_judge(const struct chv_registry_client *client, const struct chv_registry_claim *claim,
                                    uint64_t now)
{
    switch (client->status) {
    case CHV_CLIENT_ACTIVE:
        break;
    case CHV_CLIENT_SUSPENDED:
        return CHV_VERDICT_SUSPENDED;
    case CHV_CLIENT_REVOKED:
        return CHV_VERDICT_REVOKED;
    case CHV_CLIENT_REMOVED:
        return CHV_VERDICT_REMOVED;
    case CHV_CLIENT_MALFORMED:
    default:
        return CHV_VERDICT_MALFORMED;
    }
    /* Profile key has no credential that says the rights: only who is registered for it gets any. */
    if ((client->profile == CHV_PROFILE_KEY) != (claim->profile == CHV_PROFILE_KEY))
        return CHV_VERDICT_PROFILE;
    if (has_wrong_identity(client, claim))
        return CHV_VERDICT_IDENTITY;
    if (claim->profile != CHV_PROFILE_KEY) {
        if (chv_issue_compare(claim->issue, client->confirmed) < 0)
            return CHV_VERDICT_CLONE;
        if (chv_issue_compare(claim->issue, client->minimum) < 0)
            return CHV_VERDICT_SUPERSEDED;
    }
    return client->not_after != 0 && client->not_after <= now ? CHV_VERDICT_EXPIRED : CHV_VERDICT_OK;
}
