/* SPDX-License-Identifier: Apache-2.0 */
/* The question at OPEN, rule by rule. */
#include "tests/registry/support.h"

#include <stdio.h>
#include <string.h>

enum { NOW = 1800000000 };

static const uint8_t key_a[CHV_DH_PUBLIC_MAX] = {1, 2, 3};
static const uint8_t key_b[CHV_DH_PUBLIC_MAX] = {7, 8, 9};

static struct chv_registry_answer ask(struct chv_registry *r, struct chv_registry_claim claim)
{
    struct chv_registry_answer answer = {.verdict = CHV_VERDICT_COUNT};
    OK(chv_registry_lookup(r, &claim, NOW, &answer, NULL));
    return answer;
}

static enum chv_verdict verdict(struct chv_registry *r, const char *id, uint32_t epoch, uint32_t serial)
{
    return ask(r, (struct chv_registry_claim){.id = id, .profile = CHV_PROFILE_PSK, .issue = {epoch, serial}}).verdict;
}

static void test_statuses(void)
{
    struct chv_registry *r = open_mode(fresh_sqlite(), CHV_REGISTRY_CREATE);
    struct chv_registry_client c = make_client("a", 1, 1);
    CU_ASSERT_EQUAL(verdict(r, "a", 1, 1), CHV_VERDICT_UNKNOWN);
    OK(put_client(r, &c, NULL));
    struct chv_registry_answer answer =
        ask(r, (struct chv_registry_claim){.id = "a", .profile = CHV_PROFILE_PSK, .issue = {1, 1}});
    CU_ASSERT_EQUAL(answer.verdict, CHV_VERDICT_OK);
    CU_ASSERT(answer.known && answer.has_scopes && answer.newer && answer.generation == 1);
    CU_ASSERT_EQUAL(answer.client.scope_count, 2);
    c.status = CHV_CLIENT_SUSPENDED;
    OK(put_client(r, &c, NULL));
    CU_ASSERT_EQUAL(verdict(r, "a", 1, 1), CHV_VERDICT_SUSPENDED);
    c.status = CHV_CLIENT_REVOKED;
    OK(put_client(r, &c, NULL));
    CU_ASSERT_EQUAL(verdict(r, "a", 1, 1), CHV_VERDICT_REVOKED);
    c.status = CHV_CLIENT_REMOVED;
    OK(put_client(r, &c, NULL));
    CU_ASSERT_EQUAL(verdict(r, "a", 9, 9), CHV_VERDICT_REMOVED);
    c.status = CHV_CLIENT_ACTIVE;
    c.not_after = NOW;
    OK(put_client(r, &c, NULL));
    CU_ASSERT_EQUAL(verdict(r, "a", 1, 1), CHV_VERDICT_EXPIRED);
    c.not_after = NOW + 1;
    OK(put_client(r, &c, NULL));
    CU_ASSERT_EQUAL(verdict(r, "a", 1, 1), CHV_VERDICT_OK);
    c.not_after = 0;
    OK(put_client(r, &c, NULL));
    CU_ASSERT_EQUAL(verdict(r, "a", 1, 1), CHV_VERDICT_OK);
    chv_registry_close(r);
}

static void test_issues(void)
{
    struct chv_registry *r = open_mode(fresh_sqlite(), CHV_REGISTRY_CREATE);
    struct chv_registry_client c = make_client("a", 1, 3);
    OK(put_client(r, &c, NULL));
    CU_ASSERT_EQUAL(verdict(r, "a", 1, 2), CHV_VERDICT_SUPERSEDED);
    CU_ASSERT_EQUAL(verdict(r, "a", 1, 3), CHV_VERDICT_OK);
    CU_ASSERT_EQUAL(verdict(r, "a", 2, 1), CHV_VERDICT_OK); /* handed out in band: newer than the latest known */
    c.confirmed = c.minimum = (struct chv_issue){2, 3};
    c.latest = (struct chv_issue){2, 3};
    OK(put_client(r, &c, NULL));
    CU_ASSERT_EQUAL(verdict(r, "a", 1, 4), CHV_VERDICT_CLONE);
    CU_ASSERT_EQUAL(verdict(r, "a", 2, 2), CHV_VERDICT_CLONE);
    CU_ASSERT_EQUAL(verdict(r, "a", 2, 3), CHV_VERDICT_OK);
    CU_ASSERT_FALSE(ask(r, (struct chv_registry_claim){.id = "a", .profile = CHV_PROFILE_PSK, .issue = {2, 3}}).newer);
    c.minimum = c.latest = (struct chv_issue){2, 5}; /* issued anew, the old one denied at once */
    OK(put_client(r, &c, NULL));
    CU_ASSERT_EQUAL(verdict(r, "a", 2, 3), CHV_VERDICT_SUPERSEDED);
    CU_ASSERT_EQUAL(verdict(r, "a", 2, 5), CHV_VERDICT_OK);
    chv_registry_close(r);
}

/* What a wider credential has is not given back to the one before it, whose successor in band is the same one still. */
static void test_held_back(void)
{
    struct chv_registry *r = open_mode(fresh_sqlite(), CHV_REGISTRY_CREATE);
    struct chv_registry_client c = make_client("a", 1, 2), got;
    CU_ASSERT_EQUAL(c.scope_count, 2);
    c.minimum = (struct chv_issue){1, 1};
    c.held[1] = true;
    c.flags = CHV_CLIENT_NARROWED_OLD;
    OK(put_client(r, &c, NULL));
    OK(chv_registry_get(r, "a", &got, NULL));
    CU_ASSERT(got.scope_count == 2 && !got.held[0] && got.held[1]);
    const struct chv_issue issues[] = {{1, 1}, {2, 1}, {1, 2}, {2, 2}};
    for (size_t i = 0; i < 4; i++) {
        struct chv_registry_answer answer =
            ask(r, (struct chv_registry_claim){.id = "a", .profile = CHV_PROFILE_PSK, .issue = issues[i]});
        CU_ASSERT_EQUAL(answer.verdict, CHV_VERDICT_OK);
        chv_registry_client_release(&answer.client, issues[i]);
        CU_ASSERT_EQUAL(answer.client.scope_count, i < 2 ? 1 : 2);
        CU_ASSERT_STRING_EQUAL(answer.client.scopes[0], c.scopes[0]);
    }
    const struct chv_registry_seen older = {.id = "a", .issue = {2, 1}, .time = NOW},
                                   newer = {.id = "a", .issue = {2, 2}, .time = NOW};
    OK(chv_registry_seen(r, &older, 1, "test", NULL));
    OK(chv_registry_get(r, "a", &got, NULL));
    CU_ASSERT(got.held[1] && got.flags == CHV_CLIENT_NARROWED_OLD);
    OK(chv_registry_seen(r, &newer, 1, "test", NULL));
    OK(chv_registry_get(r, "a", &got, NULL));
    CU_ASSERT(got.scope_count == 2 && !got.held[1] && got.flags == 0);
    OK(chv_registry_client_add_scope(&c, "a"));
    CU_ASSERT(!c.held[0] && !c.held[1] && c.held[2]);
    c.profile = CHV_PROFILE_KEY;
    CU_ASSERT_EQUAL(chv_registry_client_check(&c, NULL), CHV_ERR_ARGUMENT);
    chv_registry_close(r);
}

static void test_identities(void)
{
    struct chv_registry *r = open_mode(fresh_sqlite(), CHV_REGISTRY_CREATE);
    struct chv_registry_client c = make_client("by-key", 0, 0);
    struct chv_registry_claim claim = {
        .profile = CHV_PROFILE_KEY, .has_identity = true, .identity_curve = CHV_CURVE_25519, .identity = key_a};
    struct chv_why why;
    c.profile = CHV_PROFILE_KEY;
    c.has_identity = true;
    memcpy(c.identity, key_a, sizeof key_a);
    CU_ASSERT_EQUAL(ask(r, claim).verdict, CHV_VERDICT_UNKNOWN);
    OK(put_client(r, &c, NULL));
    struct chv_registry_answer answer = ask(r, claim);
    CU_ASSERT_EQUAL(answer.verdict, CHV_VERDICT_OK);
    CU_ASSERT_STRING_EQUAL(answer.client.id, "by-key");
    CU_ASSERT_FALSE(answer.newer);
    claim.id = "by-key";
    CU_ASSERT_EQUAL(ask(r, claim).verdict, CHV_VERDICT_OK);
    claim.identity = key_b;
    CU_ASSERT_EQUAL(ask(r, claim).verdict, CHV_VERDICT_IDENTITY);
    claim.id = NULL;
    CU_ASSERT_EQUAL(ask(r, claim).verdict, CHV_VERDICT_UNKNOWN);
    claim.identity = key_a;
    claim.identity_curve = CHV_CURVE_P256;
    CU_ASSERT_EQUAL(ask(r, claim).verdict, CHV_VERDICT_UNKNOWN);
    claim.identity_curve = CHV_CURVE_25519;
    /* a credential for the id of a client that is known by its key alone */
    CU_ASSERT_EQUAL(verdict(r, "by-key", 1, 1), CHV_VERDICT_PROFILE);

    struct chv_registry_client d = make_client("both", 1, 1), e = make_client("free", 1, 1);
    d.profile = e.profile = CHV_PROFILE_KEY_PSK;
    d.has_identity = true;
    memcpy(d.identity, key_b, sizeof key_b);
    OK(put_client(r, &d, NULL));
    OK(put_client(r, &e, NULL));
    claim = (struct chv_registry_claim){
        .id = "both", .profile = CHV_PROFILE_KEY_PSK, .issue = {1, 1}, .has_identity = true, .identity = key_b};
    CU_ASSERT_EQUAL(ask(r, claim).verdict, CHV_VERDICT_OK);
    claim.identity = key_a; /* B's credential with A's key */
    CU_ASSERT_EQUAL(ask(r, claim).verdict, CHV_VERDICT_IDENTITY);
    d.latest.serial =
        2; /* it was given another credential, for another key: the older one is bound to the one that it has */
    OK(put_client(r, &d, NULL));
    CU_ASSERT_EQUAL(ask(r, claim).verdict, CHV_VERDICT_OK);
    claim.issue.serial = 2;
    CU_ASSERT_EQUAL(ask(r, claim).verdict, CHV_VERDICT_IDENTITY);
    claim.issue.serial = 1;
    claim.id = "free"; /* no key of its own in the registry, but this one is somebody else's */
    CU_ASSERT_EQUAL(ask(r, claim).verdict, CHV_VERDICT_IDENTITY);
    claim.identity = (const uint8_t[CHV_DH_PUBLIC_MAX]){5};
    CU_ASSERT_EQUAL(ask(r, claim).verdict, CHV_VERDICT_OK);
    /* the identity key alone is not enough for who is registered with both */
    claim = (struct chv_registry_claim){.profile = CHV_PROFILE_KEY, .has_identity = true, .identity = key_b};
    CU_ASSERT_EQUAL(ask(r, claim).verdict, CHV_VERDICT_PROFILE);
    claim.has_identity = false;
    struct chv_registry_answer none;
    FAILS(chv_registry_lookup(r, &claim, NOW, &none, &why), ARGUMENT);
    chv_registry_close(r);
}

static void test_names(void)
{
    enum chv_client_status status;
    for (unsigned s = CHV_CLIENT_ACTIVE; s <= CHV_CLIENT_REMOVED; s++) {
        OK(chv_client_status_parse(chv_client_status_name((enum chv_client_status)s), &status));
        CU_ASSERT_EQUAL((unsigned)status, s);
    }
    FAILS(chv_client_status_parse("malformed", &status), ARGUMENT);
    CU_ASSERT_STRING_EQUAL(chv_client_status_name((enum chv_client_status)77), "?");
    for (unsigned v = 0; v < CHV_VERDICT_COUNT; v++)
        CU_ASSERT(strlen(chv_verdict_text((enum chv_verdict)v)) > 1);
    CU_ASSERT_STRING_EQUAL(chv_verdict_text(CHV_VERDICT_COUNT), "?");
    CU_ASSERT_STRING_EQUAL(chv_epoch_status_name(CHV_EPOCH_RETIRED), "retired");
    CU_ASSERT(chv_issue_compare((struct chv_issue){1, 9}, (struct chv_issue){2, 1}) < 0);
    CU_ASSERT(chv_issue_compare((struct chv_issue){2, 2}, (struct chv_issue){2, 1}) > 0);
    CU_ASSERT_STRING_EQUAL(chv_registry_schemes(), "sqlite, postgresql, revoked");
}

TEST_MAIN("registry lookup", {"status and expiry", test_statuses}, {"older and newer credentials", test_issues},
          {"scopes that are held back", test_held_back}, {"identity keys", test_identities}, {"names", test_names})
