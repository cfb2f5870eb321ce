/* SPDX-License-Identifier: Apache-2.0 */
/* One question: from the cache, the registry, or, while that cannot be reached, the deny snapshot. */
#include "config.h"

#include "net/registrar_internal.h"

#include "base/bytes.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* FNV-1a: ids come from whoever has the master, so that nobody can choose them to collide. */
static size_t hash_of(const char *id)
{
    uint32_t hash = 2166136261U;
    for (; *id != '\0'; id++)
        hash = (hash ^ (unsigned char)*id) * 16777619U;
    return hash;
}

/* --- cache -------------------------------------------------------------------------------------------------------- */

void chv_registrar_cache_clear(struct chv_registrar *r)
{
    for (size_t i = 0; i < CHV_REGISTRAR_CACHE; i++) {
        free(r->cache[i]);
        r->cache[i] = NULL;
    }
}

static struct chv_registrar_cached *cache_find(const struct chv_registrar *r, const char *id)
{
    struct chv_registrar_cached *cached = r->cache[hash_of(id) % CHV_REGISTRAR_CACHE];
    return cached != NULL && strcmp(cached->client.id, id) == 0 ? cached : NULL;
}

void chv_registrar_cache_forget(struct chv_registrar *r, const char *id)
{
    struct chv_registrar_cached *cached = cache_find(r, id);
    if (cached == NULL)
        return;
    r->cache[hash_of(id) % CHV_REGISTRAR_CACHE] = NULL;
    free(cached);
}

/* Without memory it is asked for again the next time. */
static void cache_put(struct chv_registrar *r, const struct chv_registry_client *client)
{
    struct chv_registrar_cached **at = &r->cache[hash_of(client->id) % CHV_REGISTRAR_CACHE];
    free(*at);
    *at = malloc(sizeof **at);
    if (*at != NULL)
        (*at)->client = *client;
}

/* --- who was seen ------------------------------------------------------------------------------------------------- */

static void note_seen(struct chv_registrar *r, uint64_t now, uint64_t time, const struct chv_registry_claim *claim,
                      const char *id, bool newer)
{
    const size_t bucket = hash_of(id) % (2 * CHV_REGISTRAR_SEEN_MAX);
    r->seen_newer = r->seen_newer || newer;
    struct chv_registry_seen *seen = r->seen_index[bucket] > 0 ? &r->seen[r->seen_index[bucket] - 1] : NULL;
    if (seen != NULL && strcmp(seen->id, id) == 0) {
        seen->time = time;
        if (chv_issue_compare(claim->issue, seen->issue) > 0)
            seen->issue = claim->issue;
        return;
    }
    if (r->seen_count == CHV_REGISTRAR_SEEN_MAX)
        chv_registrar_write_seen(r, now);
    if (r->seen_count == CHV_REGISTRAR_SEEN_MAX)
        return; /* it has not been writable for long */
    if (r->seen_count == 0 && !newer)
        r->seen_at = now + CHV_REGISTRAR_SEEN_MS;
    seen = &r->seen[r->seen_count++];
    *seen = (struct chv_registry_seen){.issue = claim->issue, .time = time};
    (void)snprintf(seen->id, sizeof seen->id, "%s", id);
    r->seen_index[bucket] = (uint16_t)r->seen_count;
}

/* Somebody uses a key that its owner has let go: a copy. */
static void note_clone(struct chv_registrar *r, uint64_t now, uint64_t time, const struct chv_registry_claim *claim,
                       const struct chv_registry_client *client)
{
    struct chv_registrar_clone *told = &r->clones[hash_of(client->id) % (sizeof r->clones / sizeof r->clones[0])];
    struct chv_audit_row row = {.time = time, .actor = CHV_REGISTRAR_ACTOR, .action = "clone"};
    struct chv_why why = {""};
    if (strcmp(told->id, client->id) == 0 && time - told->time < CHV_REGISTRAR_CLONE_SECONDS)
        return;
    told->time = time;
    memcpy(told->id, client->id, sizeof told->id);
    memcpy(row.id, client->id, sizeof row.id);
    (void)snprintf(row.details, sizeof row.details,
                   "{\"came\":\"%" PRIu32 ".%" PRIu32 "\",\"confirmed\":\"%" PRIu32 ".%" PRIu32 "\"}",
                   claim->issue.epoch, claim->issue.serial, client->confirmed.epoch, client->confirmed.serial);
    chv_log(CHV_LOG_WARNING,
            "client '%s': credential %" PRIu32 ".%" PRIu32 " came after %" PRIu32 ".%" PRIu32
            " was used: somebody has a copy of its old key, or an old backup of it was restored",
            client->id, claim->issue.epoch, claim->issue.serial, client->confirmed.epoch, client->confirmed.serial);
    enum chv_err err = chv_registry_begin(r->registry, &why);
    if (err == CHV_OK)
        err = chv_registry_audit(r->registry, &row, &why);
    if (err == CHV_OK)
        err = chv_registry_commit(r->registry, &why);
    if (err == CHV_OK)
        chv_registrar_seal_due(r, now);
    if (err != CHV_OK) {
        chv_registry_rollback(r->registry);
        chv_log(CHV_LOG_ERROR, "%s: the copy of client '%s' is not in the audit trail", why.text, client->id);
    }
}

/* --- the question ------------------------------------------------------------------------------------------------- */

static bool valid_request(const struct chv_registrar_request *q, size_t len)
{
    if (len != sizeof *q || q->tag == 0 || q->kind < CHV_REGISTRAR_OPEN || q->kind > CHV_REGISTRAR_RECHECK ||
        (q->profile != CHV_PROFILE_PSK && q->profile != CHV_PROFILE_KEY && q->profile != CHV_PROFILE_KEY_PSK) ||
        q->has_identity > 1 || q->id[sizeof q->id - 1] != '\0' || (q->id[0] != '\0' && !chv_client_id_valid(q->id)))
        return false;
    if (q->profile == CHV_PROFILE_KEY ? q->epoch != 0 || q->serial != 0
                                      : q->epoch == 0 || q->serial == 0 || q->id[0] == '\0')
        return false;
    return q->has_identity != 0 ? q->curve == CHV_CURVE_25519 || q->curve == CHV_CURVE_P256
                                : q->profile == CHV_PROFILE_PSK;
}

/* Of one whose claim the row alone decides. */
static enum chv_err look_up_cached(struct chv_registrar *r, const struct chv_registry_claim *claim, uint64_t time,
                                   struct chv_registry_answer *a, struct chv_why *why)
{
    struct chv_registrar_cached *cached = cache_find(r, claim->id);
    if (cached == NULL || (claim->has_identity && !cached->client.has_identity)) {
        enum chv_err err = chv_registry_lookup(r->registry, claim, time, a, why);
        if (err == CHV_OK && a->known && a->client.status != CHV_CLIENT_MALFORMED)
            cache_put(r, &a->client);
        return err;
    }
    *a = (struct chv_registry_answer){.known = true,
                                      .has_scopes = true,
                                      .verdict = chv_registry_judge(&cached->client, claim, time),
                                      .newer = chv_issue_compare(claim->issue, cached->client.confirmed) > 0,
                                      .client = cached->client};
    return CHV_OK;
}

/* Profile key: what the registry has for the key counts, and for the id that the allow-list gives it. */
static enum chv_err look_up_key(struct chv_registrar *r, const struct chv_registry_claim *claim, uint64_t time,
                                struct chv_registry_answer *a, struct chv_why *why)
{
    struct chv_registry_claim by_key = *claim;
    by_key.id = NULL;
    enum chv_err err = chv_registry_lookup(r->registry, &by_key, time, a, why);
    if (err != CHV_OK || claim->id[0] == '\0')
        return err;
    if (a->verdict == CHV_VERDICT_UNKNOWN)
        return chv_registry_lookup(r->registry, claim, time, a, why);
    if (a->known && strcmp(a->client.id, claim->id) != 0)
        a->verdict = CHV_VERDICT_IDENTITY;
    return CHV_OK;
}

/* A credential that was newest when it came in does not become a copy when its owner has a newer one. */
static void spare_session(const struct chv_registry_claim *claim, uint64_t time, struct chv_registry_answer *a)
{
    struct chv_registry_claim newest = *claim;
    if (a->verdict != CHV_VERDICT_CLONE || (a->client.flags & (CHV_CLIENT_NO_UPDATE | CHV_CLIENT_REPLACED)) != 0)
        return;
    newest.issue = a->client.confirmed;
    newest.has_identity = false; /* it is bound to its own, which may be another */
    a->verdict = chv_registry_judge(&a->client, &newest, time);
}

static enum chv_err open_snapshot(struct chv_registrar *r, struct chv_why *why)
{
    char uri[PATH_MAX + 16];
    const struct chv_registry_options options = {.mode = CHV_REGISTRY_READ};
    if (r->snapshot != NULL)
        return CHV_OK;
    (void)snprintf(uri, sizeof uri, "revoked:%s", r->snapshot_path);
    return chv_registry_open(uri, &options, &r->snapshot, why);
}

/* While the registry is away and not required. */
static enum chv_err look_up_snapshot(struct chv_registrar *r, const struct chv_registry_claim *claim, uint64_t time,
                                     struct chv_registry_answer *a, struct chv_why *why)
{
    enum chv_err err = open_snapshot(r, why);
    if (err == CHV_ERR_NOT_FOUND && !r->snapshot_tried)
        chv_log(CHV_LOG_WARNING, "there is no deny snapshot yet: who is revoked is not known");
    r->snapshot_tried = true;
    if (err == CHV_ERR_NOT_FOUND) {
        *a = (struct chv_registry_answer){.verdict = CHV_VERDICT_OK};
        return CHV_OK;
    }
    return err == CHV_OK ? chv_registry_lookup(r->snapshot, claim, time, a, why) : err;
}

static enum chv_err look_up(struct chv_registrar *r, uint64_t now, const struct chv_registry_claim *claim,
                            uint64_t time, struct chv_registry_answer *a, struct chv_why *why)
{
    enum chv_err err = CHV_ERR_UNAVAILABLE;
    if (r->missing) {
        *a = (struct chv_registry_answer){.verdict = CHV_VERDICT_OK};
        return CHV_OK;
    }
    if (!r->failing) {
        if (!chv_registrar_complete(r))
            return chv_registry_lookup(r->registry, claim, time, a, why);
        err = claim->profile == CHV_PROFILE_KEY ? look_up_key(r, claim, time, a, why)
                                                : look_up_cached(r, claim, time, a, why);
        if (err != CHV_OK)
            chv_registrar_failed(r, now, err, why);
    }
    return err != CHV_OK && !r->setup.required ? look_up_snapshot(r, claim, time, a, why) : err;
}

bool chv_registrar_is_compromised(const struct chv_registrar *r, uint32_t epoch)
{
    for (size_t i = 0; i < r->compromised_count; i++)
        if (r->compromised[i] == epoch)
            return true;
    return false;
}

/*
 * Whether its owner was given a newer one that a key update would make the older one: that is let in first. An update keeps
 * the serial and has the newer epoch, which counts before serials.
 */
static bool awaits_newer(const struct chv_registrar *r, const struct chv_registry_claim *claim,
                         const struct chv_registry_client *client)
{
    return claim->profile != CHV_PROFILE_KEY && claim->issue.serial < client->latest.serial &&
           (client->latest.epoch <= claim->issue.epoch || client->latest.epoch < chv_registrar_newest_epoch(r));
}

static void fill_answer(const struct chv_registry_answer *a, struct chv_registrar_answer *answer)
{
    answer->status = CHV_REGISTRAR_OK;
    answer->verdict = (uint16_t)a->verdict;
    answer->known = a->known;
    if (!a->known)
        return;
    const struct chv_registry_client *c = &a->client;
    memcpy(answer->id, c->id, sizeof answer->id);
    memcpy(answer->reason, c->reason, sizeof answer->reason);
    answer->no_update = (c->flags & CHV_CLIENT_NO_UPDATE) != 0;
    answer->not_after = c->not_after;
    answer->has_scopes = a->has_scopes;
    if (!a->has_scopes)
        return;
    answer->scope_count = (uint8_t)c->scope_count;
    memcpy(answer->scopes, c->scopes, c->scope_count * sizeof c->scopes[0]);
}

/* Whether the keeper can have taken the credential: what it would not is a word of the net process alone. */
static bool is_served(struct chv_registrar *r, const struct chv_registry_claim *claim, const char *id)
{
    if (claim->profile == CHV_PROFILE_KEY)
        return true;
    for (size_t i = 0; i < r->served_count; i++)
        if (r->served[i] == claim->issue.epoch)
            return true;
    if (!r->unserved_told)
        chv_log(CHV_LOG_WARNING,
                "client '%s': the net process has it come in with a credential of epoch %" PRIu32
                ", which is not served: that is not written down (nor are others like it)",
                id, claim->issue.epoch);
    r->unserved_told = true;
    return false;
}

/*
 * Whether keyadmin can have handed it out: a serial is written down before its credential leaves, and a key update keeps it.
 * One beyond them, written down on the net process's word, would leave the client without a serial that is newer.
 */
static bool is_issued(struct chv_registrar *r, const struct chv_registry_claim *claim,
                      const struct chv_registry_client *client)
{
    if (claim->profile == CHV_PROFILE_KEY || client->latest.serial == 0 || r->older ||
        claim->issue.serial <= client->latest.serial)
        return true;
    if (!r->unissued_told)
        chv_log(CHV_LOG_WARNING,
                "client '%s': the net process has it come in with serial %" PRIu32
                ", and the registry has handed out no more than %" PRIu32
                ": that is not written down (nor are others like it)",
                client->id, claim->issue.serial, client->latest.serial);
    r->unissued_told = true;
    return false;
}

/* What comes of an answer at OPEN. */
static void note_open(struct chv_registrar *r, uint64_t now, uint64_t time, const struct chv_registry_claim *claim,
                      const struct chv_registry_answer *a)
{
    if (a->known && a->verdict == CHV_VERDICT_CLONE) {
        note_clone(r, now, time, claim, &a->client);
    } else if (a->known && a->verdict == CHV_VERDICT_OK && is_served(r, claim, a->client.id) &&
               is_issued(r, claim, &a->client)) {
        struct chv_registrar_cached *cached = cache_find(r, a->client.id);
        if (a->newer && cached != NULL) /* what a write under way will have made of it */
            (void)chv_registry_client_confirm(&cached->client, claim->issue);
        note_seen(r, now, time, claim, a->client.id, a->newer);
    }
}

void chv_registrar_answer(struct chv_registrar *r, uint64_t now, uint64_t time, const void *packet, size_t len,
                          struct chv_registrar_answer *answer)
{
    struct chv_registrar_request q;
    struct chv_registry_answer a;
    struct chv_why why = {""};
    memset(answer, 0, sizeof *answer);
    answer->status = CHV_REGISTRAR_MALFORMED;
    if (len != sizeof q)
        return;
    memcpy(&q, packet, sizeof q);
    answer->tag = q.tag;
    if (!valid_request(&q, len))
        return;
    const struct chv_registry_claim claim = {.id = q.id,
                                             .profile = (enum chv_profile)q.profile,
                                             .issue = {.epoch = q.epoch, .serial = q.serial},
                                             .has_identity = q.has_identity != 0,
                                             .identity_curve = (enum chv_curve)q.curve,
                                             .identity = q.identity};
    memset(&a, 0, sizeof a);
    if ((q.kind == CHV_REGISTRAR_PEER && r->failing) || look_up(r, now, &claim, time, &a, &why) != CHV_OK) {
        answer->status = CHV_REGISTRAR_UNAVAILABLE;
        return;
    }
    if (q.kind == CHV_REGISTRAR_RECHECK && a.known)
        spare_session(&claim, time, &a);
    if (a.verdict == CHV_VERDICT_OK && chv_registrar_is_compromised(r, q.epoch))
        a.verdict = CHV_VERDICT_EPOCH;
    if (q.kind == CHV_REGISTRAR_OPEN && !r->failing && chv_registrar_complete(r))
        note_open(r, now, time, &claim, &a);
    if (a.known)
        chv_registry_client_release(&a.client, claim.issue);
    fill_answer(&a, answer);
    if (a.known && awaits_newer(r, &claim, &a.client))
        answer->no_update = 1;
}
