/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registrar has the audit trail sealed as far as it goes: it never has the key, and asks the keeper for the MAC. What the
 * keeper cannot answer now stays unsealed, and is asked for again.
 */
#include "config.h"

#include "net/keeper_audit.h"
#include "net/registrar_internal.h"

#include "base/memory.h"

#include <inttypes.h>
#include <string.h>

enum { SEAL_MS = 1000, PAUSE_MAX_MS = 30000 };

void chv_registrar_seal_due(struct chv_registrar *r, uint64_t now)
{
    struct chv_registrar_seal *s = &r->seal;
    if (s->due || !chv_registrar_writable(r))
        return;
    s->due = true;
    s->at = now + SEAL_MS; /* what comes in bursts is sealed at once, and keyadmin seals its own */
}

static void pause_sealing(struct chv_registrar_seal *s, uint64_t now)
{
    s->pause_ms = s->pause_ms == 0 ? SEAL_MS : s->pause_ms < PAUSE_MAX_MS / 2 ? s->pause_ms * 2 : PAUSE_MAX_MS;
    s->at = now + s->pause_ms;
}

/* Somebody has changed what is sealed already, or was about to be: a seal must not vouch for it. */
static void give_up(struct chv_registrar *r, const char *text)
{
    r->seal.broken = true;
    chv_log(CHV_LOG_ERROR, "%s; this server seals the audit trail no more: see 'keyadmin audit verify'", text);
}

/* Whoever has the master of an epoch that is over may have made its seal: what stands below it may be his. */
static bool is_believed(const struct chv_registrar *r, uint32_t epoch)
{
    bool believed = epoch > chv_registrar_newest_epoch(r); /* made, and not served yet */
    for (size_t i = 0; i < r->served_count; i++)
        believed |= r->served[i] == epoch;
    return believed && !chv_registrar_is_compromised(r, epoch);
}

static bool same_seal(const struct chv_audit_seal *a, const struct chv_audit_seal *b)
{
    return a->n == b->n && a->epoch == b->epoch && a->time == b->time &&
           memcmp(a->hash, b->hash, sizeof a->hash) == 0 && chv_equal(a->mac, b->mac, sizeof a->mac);
}

static void fill(struct chv_registrar_seal *s, const struct chv_audit_seal *seal,
                 struct chv_keeper_audit_request *question)
{
    s->tag = ++s->tags;
    *question = (struct chv_keeper_audit_request){
        .tag = s->tag, .kind = CHV_KEEPER_AUDIT, .epoch = seal->epoch, .n = seal->n, .time = seal->time};
    memcpy(question->hash, seal->hash, sizeof question->hash);
}

bool chv_registrar_seal_ask(struct chv_registrar *r, uint64_t now, uint64_t time,
                            struct chv_keeper_audit_request *question)
{
    struct chv_registrar_seal *s = &r->seal;
    struct chv_why why = {""};
    const uint32_t epoch = chv_registrar_newest_epoch(r);
    if (!s->due || s->broken || s->tag != 0 || now < s->at || epoch == 0 || r->failing || !chv_registrar_writable(r))
        return false;
    enum chv_err err = chv_registry_seal_begin(r->registry, epoch, time, &s->known, &s->stands, &s->next, &why);
    if (err == CHV_ERR_AUTH) {
        give_up(r, why.text);
        return false;
    }
    if (err != CHV_OK) {
        pause_sealing(s, now);
        return false;
    }
    s->known = s->next;
    if (s->next.n == s->stands.n) {
        s->due = false;
        return false;
    }
    s->checking = s->stands.n > 0 && !same_seal(&s->stands, &s->good);
    if (s->checking && !is_believed(r, s->stands.epoch)) {
        if (!s->unable)
            chv_log(
                CHV_LOG_ERROR,
                "the audit trail has a seal by the master of epoch %" PRIu32
                ", which is over: whoever has that master may have made it; this server seals nothing behind it: see "
                "'keyadmin audit verify'",
                s->stands.epoch);
        s->unable = true;
        pause_sealing(s, now);
        return false;
    }
    fill(s, s->checking ? &s->stands : &s->next, question);
    return true;
}

static void take_mac(struct chv_registrar *r, uint64_t now, const uint8_t mac[CHV_AUDIT_MAC_LEN])
{
    struct chv_registrar_seal *s = &r->seal;
    struct chv_why why = {""};
    if (s->checking) {
        s->good = s->stands;
        s->at = now; /* the next question is for the new one */
        if (!chv_equal(mac, s->stands.mac, sizeof s->stands.mac)) {
            (void)chv_fail(&why, CHV_ERR_AUTH, "%s: the seal on audit row %" PRIu64 " is none that this master made",
                           r->uri, s->stands.n);
            give_up(r, why.text);
        }
        return;
    }
    memcpy(s->next.mac, mac, sizeof s->next.mac);
    enum chv_err err = r->registry != NULL && !r->failing
                           ? chv_registry_seal_put(r->registry, &s->stands, &s->next, &why)
                           : CHV_ERR_UNAVAILABLE;
    if (err != CHV_OK) { /* locked, say, or sealed by somebody else */
        pause_sealing(s, now);
        return;
    }
    s->good = s->next;
    s->pause_ms = 0;
    s->at = now + SEAL_MS; /* and then it is looked whether rows were added meanwhile */
}

void chv_registrar_seal_answer(struct chv_registrar *r, uint64_t now, const struct chv_keeper_audit_answer *answer)
{
    struct chv_registrar_seal *s = &r->seal;
    if (s->tag == 0 || answer->tag != s->tag)
        return;
    s->tag = 0;
    if (answer->status == CHV_KEEPER_OK) {
        take_mac(r, now, answer->mac);
        return;
    }
    if (answer->status == CHV_KEEPER_MALFORMED && !s->unable)
        chv_log(CHV_LOG_WARNING,
                "the keystore has no master of epoch %" PRIu32
                ", which sealed the audit trail: this server does not seal it until keyadmin did",
                s->checking ? s->stands.epoch : s->next.epoch);
    s->unable = answer->status == CHV_KEEPER_MALFORMED;
    pause_sealing(s, now);
}

void chv_registrar_seal_lost(struct chv_registrar *r)
{
    r->seal.tag = 0;
    r->seal.at = 0;
    r->seal.pause_ms = 0;
}
