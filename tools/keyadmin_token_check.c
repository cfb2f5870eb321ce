/* SPDX-License-Identifier: Apache-2.0 */
/* keyadmin token check: what a token can do, and what that means here. */
#include "tools/keyadmin.h"

#include <stdarg.h>
#include <string.h>
#include <sysexits.h>

#include "keystore/token_check.h"

enum { TOKEN_ADVICE_MAX = 1024 };

static bool token_has(const struct chv_token_check *c, const char *mechanism)
{
    for (size_t i = 0; i < c->mechanism_count; i++)
        if (strcmp(c->mechanisms[i].name, mechanism) == 0)
            return c->mechanisms[i].there;
    return false;
}

/* --- advice --------------------------------------------------------------------------------------------------------
 */

static void token_say(json_t *advice, const char *format, ...) CHV_PRINTF(2, 3);
static void token_say(json_t *advice, const char *format, ...)
{
    char text[TOKEN_ADVICE_MAX];
    va_list list;
    va_start(list, format);
    (void)vsnprintf(text, sizeof text, format, list);
    va_end(list);
    (void)json_array_append_new(advice, json_string(text));
}

static void token_advise_keystore(const struct chv_token_check *c, json_t *advice)
{
    enum chv_token_answer hmac = c->rungs[0].answer;
    for (size_t i = 0; i < c->known_count; i++)
        if (c->known[i].verdict == CHV_TOKEN_ERRS)
            token_say(advice, "DO NOT USE IT: its %s is wrong (%s: %.120s).", c->known[i].what, c->known[i].source,
                      c->known[i].reason);
    if (!token_has(c, "CKM_SHA256_HMAC"))
        token_say(advice, "It cannot be a keystore: it has no CKM_SHA256_HMAC.");
    else if (hmac == CHV_TOKEN_WRONG)
        token_say(advice, "DO NOT USE IT: its HMAC-SHA256 is wrong.");
    else if (!c->test_keys)
        token_say(advice,
                  "It takes no keys from outside: this check could not compare it with OpenSSL, and an access key "
                  "cannot be put into it. A master that its own tools make can serve.");
    else
        token_say(advice,
                  "It can be a keystore: keys are made for HMAC only and derive by C_Sign, which gives the bytes "
                  "that OpenSSL gives.");
    if (c->leak[0] != 0)
        token_say(
            advice,
            "Its keys do not stay inside: %s gives one out that is not extractable and may not derive. Use it for "
            "tests only.",
            c->leak);
    if (c->unproved[0] != 0)
        token_say(advice, "Whether its keys stay inside is not known: %s", c->unproved);
    for (size_t i = 1; i < CHV_TOKEN_RUNGS; i++)
        if (c->rungs[i].answer == CHV_TOKEN_EQUAL)
            token_say(advice, "chaveiro-derive=%s would work, but %s", c->rungs[i].name,
                      c->derive_leak[0] != 0 ? "a key that may derive gives its bytes out here: leave it off."
                      : c->unproved[0] != 0  ? "nothing shows that a key that may derive stays inside: leave it off."
                                             : "HMAC does the same with less allowed to the key: leave it off unless a "
                                               "rule asks for it.");
        else if (c->rungs[i].answer == CHV_TOKEN_WRONG)
            token_say(advice, "Its chaveiro-derive=%s is wrong: never use it.", c->rungs[i].name);
}

/* What came of opening it as a backend: trials, self-test, suites. */
static void token_advise_backend(const struct chv_token_check *c, json_t *advice)
{
    char suites[160] = "";
    size_t len = 0;
    for (size_t i = 0; i < CHV_TOKEN_SUITES; i++)
        if (c->backend.opens && c->backend.suites[i].there)
            len += (size_t)snprintf(suites + len, sizeof suites - len, " %s", c->backend.suites[i].name);
    if (suites[0] == '\0') {
        token_say(advice,
                  "It cannot be a backend: opened as one it failed, as 'backend' tells. Keep backend = openssl.");
        return;
    }
    token_say(
        advice,
        "As backend it was opened, passed the self-test and can serve:%s. backend = openssl is much faster; choose "
        "the token where every primitive must run in it.",
        suites);
    if (c->backend.needs_login)
        token_say(advice, "As backend it wants a PIN: give its URI a pin-source, and take a token without the master.");
}

static void token_advise_pin(const struct chv_token_check *c, json_t *advice)
{
    CK_FLAGS flags = c->info.flags;
    if (strncmp(c->info.manufacturer, "SoftHSM", strlen("SoftHSM")) == 0)
        token_say(advice,
                  "SoftHSM keeps its keys in files of this host: who can write its token folder can read them. Take "
                  "it for development, and where the disk is trusted; an HSM or a TPM elsewhere. It never locks a "
                  "PIN: keep a long random one, as 'keyadmin init' makes it.");
    if ((flags & CKF_USER_PIN_LOCKED) != 0)
        token_say(advice, "Its PIN is locked: the security officer must set a new one.");
    else if ((flags & CKF_USER_PIN_FINAL_TRY) != 0)
        token_say(advice, "One more wrong PIN locks it.");
    else if ((flags & CKF_USER_PIN_COUNT_LOW) != 0)
        token_say(advice, "A wrong PIN was tried: find out by whom.");
    if (c->info.max_sessions != CK_EFFECTIVELY_INFINITE && c->info.max_sessions != CK_UNAVAILABLE_INFORMATION)
        token_say(advice, "It has %lu sessions: the server works with one, but other programs may take it.",
                  c->info.max_sessions);
    if (c->derive_rate > 0)
        token_say(advice, "A server needs one derivation per full handshake: at most %.0f handshakes a second here.",
                  c->derive_rate);
}

/* --- printing ------------------------------------------------------------------------------------------------------
 */

static json_t *token_sessions(const struct chv_p11_token_info *info)
{
    if (info->max_sessions == CK_EFFECTIVELY_INFINITE)
        return json_string("no limit");
    if (info->max_sessions == CK_UNAVAILABLE_INFORMATION)
        return json_string("not told");
    return json_integer((json_int_t)info->max_sessions);
}

static json_t *token_known(const struct chv_token_check *c)
{
    static const char *const results[] = {"absent", "ok", "refused", "WRONG"};
    json_t *list = json_array();
    for (size_t i = 0; i < c->known_count; i++) {
        json_t *line = json_object();
        (void)json_object_set_new(line, "what", json_string(c->known[i].what));
        (void)json_object_set_new(line, "source", json_string(c->known[i].source));
        (void)json_object_set_new(line, "result", json_string(results[c->known[i].verdict]));
        if (c->known[i].reason[0] != '\0')
            (void)json_object_set_new(line, "reason", json_string(c->known[i].reason));
        (void)json_array_append_new(list, line);
    }
    return list;
}

/* {"opens": true, "suites": [...], "lacks": {SUITE: why}} or {"opens": false, "reason": why} */
static json_t *token_backend(const struct chv_token_check *c)
{
    json_t *o = json_object(), *suites = json_array(), *lacks = json_object();
    (void)json_object_set_new(o, "opens", json_boolean(c->backend.opens));
    if (!c->backend.opens)
        (void)json_object_set_new(o, "reason", json_string(c->backend.why.text));
    for (size_t i = 0; c->backend.opens && i < CHV_TOKEN_SUITES; i++)
        if (c->backend.suites[i].there)
            (void)json_array_append_new(suites, json_string(c->backend.suites[i].name));
        else
            (void)json_object_set_new(lacks, c->backend.suites[i].name, json_string(c->backend.suites[i].lacks));
    (void)json_object_set_new(o, "suites", suites);
    (void)json_object_set_new(o, "lacks", lacks);
    return o;
}

static json_t *token_report(const struct chv_token_check *c)
{
    static const char *const answers[] = {"no", "equal to OpenSSL", "WRONG"};
    json_t *o = json_object(), *has = json_array(), *lacks = json_array(), *curves = json_array(),
           *advice = json_array();
    (void)json_object_set_new(o, "token", json_string(c->name));
    (void)json_object_set_new(o, "manufacturer", json_string(c->info.manufacturer));
    (void)json_object_set_new(o, "model", json_string(c->info.model));
    (void)json_object_set_new(o, "serial", json_string(c->info.serial));
    (void)json_object_set_new(o, "state", keyadmin_token_flags(&c->info));
    (void)json_object_set_new(o, "sessions", token_sessions(&c->info));
    for (size_t i = 0; i < c->mechanism_count; i++)
        (void)json_array_append_new(c->mechanisms[i].there ? has : lacks, json_string(c->mechanisms[i].name));
    (void)json_object_set_new(o, "has", has);
    (void)json_object_set_new(o, "lacks", lacks);
    if (c->p256)
        (void)json_array_append_new(curves, json_string(chv_curve_name(CHV_CURVE_P256)));
    if (c->x25519)
        (void)json_array_append_new(curves, json_string(chv_curve_name(CHV_CURVE_25519)));
    (void)json_object_set_new(o, "curves", curves);
    (void)json_object_set_new(o, "known_answers", token_known(c));
    (void)json_object_set_new(o, "backend", token_backend(c));
    for (size_t i = 0; i < CHV_TOKEN_RUNGS; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "derive_%s", c->rungs[i].name);
        (void)json_object_set_new(o, name, json_string(c->test_keys ? answers[c->rungs[i].answer] : "not known"));
    }
    (void)json_object_set_new(o, "extraction",
                              json_string(!c->test_keys         ? "not known"
                                          : c->leak[0] != 0     ? c->leak
                                          : c->unproved[0] != 0 ? "not known"
                                                                : "refused"));
    if (c->hmac_rate > 0)
        (void)json_object_set_new(o, "hmac_per_second", json_integer((json_int_t)c->hmac_rate));
    if (c->derive_rate > 0) {
        (void)json_object_set_new(o, "derive_key", json_string(c->derive_label));
        (void)json_object_set_new(o, "derive_per_second", json_integer((json_int_t)c->derive_rate));
    }
    token_advise_keystore(c, advice);
    token_advise_backend(c, advice);
    token_advise_pin(c, advice);
    (void)json_object_set_new(o, "advice", advice);
    return o;
}

static void token_put(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    chv_cli_put_escaped(stdout, text, strlen(text), false);
}

/* One line a known answer: "  ok       AES-256-GCM (SOURCE)", and behind a colon why not. */
static void token_print_known(const json_t *known)
{
    size_t i;
    json_t *line;
    printf("\nknown answers:\n");
    json_array_foreach(known, i, line)
    {
        printf("  %-8s ", json_string_value(json_object_get(line, "result")));
        token_put(line, "what");
        printf(" (");
        token_put(line, "source");
        printf(")");
        if (json_object_get(line, "reason") != NULL) {
            printf(": ");
            token_put(line, "reason");
        }
        printf("\n");
    }
}

static void token_print_backend(const json_t *backend)
{
    size_t i;
    json_t *suite, *reason;
    const char *name;
    printf("\nbackend:\n");
    if (!json_is_true(json_object_get(backend, "opens"))) {
        printf("  refused  ");
        token_put(backend, "reason");
        printf("\n");
    }
    json_array_foreach(json_object_get(backend, "suites"), i, suite)
        printf("  ok       %s\n", json_string_value(suite));
    json_object_foreach(json_object_get(backend, "lacks"), name, reason)
    {
        printf("  refused  %s: ", name);
        token_put(json_object_get(backend, "lacks"), name);
        printf("\n");
    }
}

static void token_print(json_t *report)
{
    size_t i;
    json_t *line, *advice = json_incref(json_object_get(report, "advice")),
                  *known = json_incref(json_object_get(report, "known_answers")),
                  *backend = json_incref(json_object_get(report, "backend"));
    (void)json_object_del(report, "advice");
    (void)json_object_del(report, "known_answers");
    (void)json_object_del(report, "backend");
    chv_cli_print(json_incref(report), false);
    token_print_known(known);
    token_print_backend(backend);
    printf("\n");
    json_array_foreach(advice, i, line)
    {
        const char *text = json_string_value(line);
        printf("- ");
        chv_cli_put_escaped(stdout, text, strlen(text), false);
        printf("\n");
    }
    json_decref(advice);
    json_decref(known);
    json_decref(backend);
}

static bool token_wrong(const struct chv_token_check *c)
{
    bool wrong = c->rungs[0].answer == CHV_TOKEN_WRONG;
    for (size_t i = 0; i < c->known_count; i++)
        wrong = wrong || c->known[i].verdict == CHV_TOKEN_ERRS;
    return wrong;
}

int keyadmin_token_check(const struct chv_cli_args *args)
{
    char uri[CHV_TOKEN_URI_SIZE];
    struct chv_why why = {""};
    struct chv_token_check check;
    struct chv_secret_source secret;
    json_t *report = NULL;
    enum chv_err err = chv_token_uri(args->operands[0], chv_cli_value(args, "module"), NULL, uri, &why);
    if (err == CHV_OK)
        err = keyadmin_secret(args, uri, &secret, &why);
    if (err == CHV_OK)
        err = chv_token_check(uri, chv_secret_get, &secret, &check, &why);
    if (err == CHV_OK && (report = token_report(&check)) == NULL)
        err = CHV_ERR_MEMORY;
    if (err != CHV_OK)
        return chv_cli_why(err, &why);
    if (chv_cli_given(args, "json"))
        chv_cli_print(json_incref(report), true);
    else
        token_print(report);
    json_decref(report);
    /* a token that computes wrongly is a failure, whatever else it can do */
    return token_wrong(&check) ? EX_SOFTWARE : EX_OK;
}
