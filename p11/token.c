/* SPDX-License-Identifier: Apache-2.0 */
#include "p11/token_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* ---- finding ---- */

/* Bytes of the UTF-8 character at `p` (RFC 3629, 4) that a terminal shows and does not obey; 0 if it is none. */
static size_t harmless(const unsigned char *p, size_t len)
{
    const size_t n = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
    if (n == 0 || n > len || p[0] < ' ' || p[0] == 0x7f)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return n == 2 && p[0] == 0xc2 && p[1] < 0xa0 ? 0 : n; /* C1: 0x9b begins a command of the terminal */
}

void chv_p11_show(const unsigned char *from, size_t len, char *to)
{
    while (len > 0 && (from[len - 1] == ' ' || from[len - 1] == '\0'))
        len--;
    for (size_t i = 0; i < len;) {
        size_t n = harmless(from + i, len - i);
        if (n == 0)
            to[i++] = '?';
        for (; n > 0; n--, i++)
            to[i] = (char)from[i];
    }
    to[len] = '\0';
}

void chv_p11_token_convert(const CK_TOKEN_INFO *from, CK_SLOT_ID slot, struct chv_p11_token_info *to)
{
    *to = (struct chv_p11_token_info){.slot = slot,
                                      .flags = from->flags,
                                      .max_sessions = from->ulMaxSessionCount,
                                      .pin_min = from->ulMinPinLen,
                                      .pin_max = from->ulMaxPinLen};
    chv_p11_show(from->label, sizeof from->label, to->label);
    chv_p11_show(from->manufacturerID, sizeof from->manufacturerID, to->manufacturer);
    chv_p11_show(from->model, sizeof from->model, to->model);
    chv_p11_show(from->serialNumber, sizeof from->serialNumber, to->serial);
}

enum { SLOTS_MAX = 4096 }; /* more is no number of slots: CK_UNAVAILABLE_INFORMATION, or a broken module */

/* Asked for the number first: some modules look anew only then. */
CK_RV chv_p11_slots(CK_FUNCTION_LIST *fn, CK_SLOT_ID **slots, CK_ULONG *count)
{
    CK_RV rv = CKR_BUFFER_TOO_SMALL;
    *slots = NULL;
    for (unsigned i = 0; i < 4 && rv == CKR_BUFFER_TOO_SMALL; i++) { /* a token may appear between the two calls */
        free(*slots);
        *slots = NULL;
        rv = fn->C_GetSlotList(CK_TRUE, NULL, count);
        if (rv != CKR_OK)
            return rv;
        const CK_ULONG room = *count;
        if (room > SLOTS_MAX)
            return CKR_GENERAL_ERROR;
        *slots = calloc(room + 1, sizeof **slots);
        if (*slots == NULL)
            return CKR_HOST_MEMORY;
        rv = fn->C_GetSlotList(CK_TRUE, *slots, count);
        if (rv == CKR_OK && *count > room)
            rv = CKR_BUFFER_TOO_SMALL; /* what it says that it wrote does not fit */
    }
    return rv;
}

/* What a search of the slots met; texts for people. */
struct survey {
    const struct chv_p11_uri *uri;
    CK_SLOT_ID slot;
    CK_TOKEN_INFO info;
    unsigned matches;
    CK_RV failed;      /* the last answer of a slot that could not be asked */
    char serials[128]; /* of those that match */
    char labels[128];  /* of all */
};

static void add_name(char *list, size_t size, const char *name)
{
    size_t n = strlen(list);
    (void)snprintf(list + n, size - n, "%s\"%s\"", n > 0 ? ", " : "", name);
}

static void look_at(struct survey *survey, CK_FUNCTION_LIST *fn, CK_SLOT_ID slot)
{
    CK_TOKEN_INFO info;
    struct chv_p11_token_info shown;
    CK_RV rv = fn->C_GetTokenInfo(slot, &info);
    if (rv != CKR_OK) {
        survey->failed = rv;
        return;
    }
    if ((info.flags & CKF_TOKEN_INITIALIZED) == 0)
        return;
    chv_p11_token_convert(&info, slot, &shown);
    add_name(survey->labels, sizeof survey->labels, shown.label);
    if (!chv_p11_uri_matches(survey->uri, slot, &info))
        return;
    add_name(survey->serials, sizeof survey->serials, shown.serial);
    survey->slot = slot;
    survey->info = info;
    survey->matches++;
}

/* Where there is not a single token it is rarely the name that is wrong. */
static enum chv_err no_match(const struct survey *survey, const char *path, const char *wanted, struct chv_why *why)
{
    char buf[CHV_P11_FILES_SIZE];
    const char *advice = "check the name";
    bool failed = survey->failed != CKR_OK, none = survey->labels[0] == '\0';
    if (none && strcmp(path, CHV_P11_DEFAULT_MODULE) == 0)
        advice = "p11-kit leaves out a module that fails, so name the module (--module, module-path=) to see why";
    else if (none && *(advice = chv_p11_files(path, buf, sizeof buf)) == '\0')
        advice = "is it the right module?";
    return chv_fail(why, CHV_ERR_NOT_FOUND,
                    "%s: no token matches %s; %s%s%s%s: %s; 'keyadmin token init' makes a token", path, wanted,
                    none ? "there is none" : "there are ", survey->labels, failed ? "; a slot failed with " : "",
                    failed ? chv_p11_rv_name(survey->failed) : "", advice);
}

enum chv_err chv_p11_token_locate(const struct chv_p11_uri *uri, const struct chv_p11_module *module, CK_SLOT_ID *slot,
                                  CK_TOKEN_INFO *info, CK_RV *rv, struct chv_why *why)
{
    CK_SLOT_ID *slots = NULL;
    CK_ULONG count = 0;
    char wanted[128];
    struct survey survey = {.uri = uri, .failed = CKR_OK};
    chv_p11_uri_describe(uri, wanted, sizeof wanted);
    *rv = chv_p11_slots(module->fn, &slots, &count);
    for (CK_ULONG i = 0; *rv == CKR_OK && i < count; i++)
        look_at(&survey, module->fn, slots[i]);
    free(slots);
    if (*rv != CKR_OK)
        return chv_p11_fail(why, module->path, "C_GetSlotList", CHV_P11_NO_MECHANISM, *rv);
    if (survey.matches > 1)
        return chv_fail(why, CHV_ERR_CONFIG, "%s: %u tokens match %s: add ;serial= and one of %s", module->path,
                        survey.matches, wanted, survey.serials);
    if (survey.matches == 0) {
        *rv = CKR_TOKEN_NOT_PRESENT;
        return no_match(&survey, module->path, wanted, why);
    }
    *slot = survey.slot;
    *info = survey.info;
    return CHV_OK;
}

/* ---- opening ---- */

static void free_token(struct chv_p11_token *t)
{
    if (t == NULL)
        return;
    (void)pthread_mutex_destroy(&t->login_lock);
    chv_p11_uri_free(&t->uri);
    free(t);
}

/* How many sessions we may have: 0 is "no limit", all ones "unknown" (PKCS #11 2.40, 3.2). */
static unsigned session_limit(const CK_TOKEN_INFO *info)
{
    CK_ULONG limit = CHV_P11_POOL_MAX;
    const CK_ULONG told[] = {info->ulMaxSessionCount, info->ulMaxRwSessionCount};
    for (size_t i = 0; i < 2; i++)
        if (told[i] != CK_EFFECTIVELY_INFINITE && told[i] != CK_UNAVAILABLE_INFORMATION && told[i] < limit)
            limit = told[i];
    return (unsigned)limit;
}

static enum chv_err make_token(const struct chv_p11_uri *uri, struct chv_p11_module *module,
                               struct chv_p11_token **token, struct chv_why *why)
{
    CK_TOKEN_INFO info = {.flags = 0};
    CK_RV rv = CKR_OK;
    struct chv_p11_token_info shown;
    struct chv_p11_token *t = calloc(1, sizeof *t);
    if (t == NULL)
        return chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", module->path);
    (void)pthread_mutex_init(&t->login_lock, NULL);
    t->module = module;
    t->refs = 1;
    enum chv_err err = chv_p11_uri_parse(uri->text, &t->uri, why);
    if (err == CHV_OK)
        err = chv_p11_module_enter(module, why);
    if (err == CHV_OK) {
        err = chv_p11_token_locate(uri, module, &t->slot, &info, &rv, why);
        chv_p11_module_leave(module);
    }
    if (err != CHV_OK) {
        free_token(t);
        return err;
    }
    t->located = true;
    t->limit = session_limit(&info);
    chv_p11_token_convert(&info, t->slot, &shown);
    (void)snprintf(t->name, sizeof t->name, "token \"%s\" (serial %s) in %.384s", shown.label, shown.serial,
                   module->path);
    *token = t;
    return CHV_OK;
}

/* Who opens it later may say more than who opened it first: where the PIN is, and that it may be tried. */
static void adopt(struct chv_p11_token *t, struct chv_p11_uri *uri)
{
    (void)pthread_mutex_lock(&t->login_lock); /* a login reads them */
    (void)pthread_mutex_lock(&t->module->lock);
    if (uri->pin_file != NULL) {
        char *before = t->uri.pin_file;
        t->uri.pin_file = uri->pin_file;
        uri->pin_file = before;
    }
    t->uri.final_try = t->uri.final_try || uri->final_try;
    (void)pthread_mutex_unlock(&t->module->lock);
    (void)pthread_mutex_unlock(&t->login_lock);
}

enum chv_err chv_p11_token_open(const struct chv_p11_uri *uri, struct chv_p11_token **token, struct chv_why *why)
{
    struct chv_p11_module *module;
    struct chv_p11_token *t = NULL, *other = NULL;
    enum chv_err err = chv_p11_module_load(uri->module_path, uri->init_args, &module, why);
    if (err != CHV_OK)
        return err;
    err = make_token(uri, module, &t, why);
    if (err != CHV_OK || t == NULL) {
        chv_p11_module_unload(module);
        return err;
    }
    (void)pthread_mutex_lock(&module->lock);
    for (other = module->tokens; other != NULL && (!other->located || other->slot != t->slot);)
        other = other->next;
    if (other == NULL) {
        t->next = module->tokens;
        module->tokens = t;
    } else {
        other->refs++;
    }
    (void)pthread_mutex_unlock(&module->lock);
    if (other != NULL) {
        adopt(other, &t->uri);
        free_token(t);
        chv_p11_module_unload(module);
        t = other;
    }
    *token = t;
    return CHV_OK;
}

void chv_p11_token_close(struct chv_p11_token *token)
{
    if (token == NULL)
        return;
    struct chv_p11_module *module = token->module;
    (void)pthread_mutex_lock(&module->lock);
    bool last = --token->refs == 0;
    if (last) {
        struct chv_p11_token **at = &module->tokens;
        while (*at != token)
            at = &(*at)->next;
        *at = token->next;
        chv_p11_session_drop_idle(token); /* the last one to go logs out */
    }
    (void)pthread_mutex_unlock(&module->lock);
    if (last) {
        free_token(token);
        chv_p11_module_unload(module);
    }
}

void chv_p11_token_reset(struct chv_p11_token *token)
{
    chv_p11_session_drop_idle(token);
    token->located = false;
    token->logged_in = false;
}

const char *chv_p11_token_name(const struct chv_p11_token *token)
{
    return token->name;
}

/* ---- asking ---- */

enum chv_err chv_p11_token_info(struct chv_p11_token *token, struct chv_p11_token_info *info, struct chv_why *why)
{
    CK_TOKEN_INFO raw;
    enum chv_err err = chv_p11_module_enter(token->module, why);
    if (err != CHV_OK)
        return err;
    (void)pthread_mutex_lock(&token->module->lock);
    CK_SLOT_ID slot = token->slot;
    (void)pthread_mutex_unlock(&token->module->lock);
    CK_RV rv = token->module->fn->C_GetTokenInfo(slot, &raw);
    chv_p11_module_leave(token->module);
    if (rv != CKR_OK)
        return chv_p11_fail(why, token->name, "C_GetTokenInfo", CHV_P11_NO_MECHANISM, rv);
    chv_p11_token_convert(&raw, slot, info);
    return CHV_OK;
}

enum chv_err chv_p11_token_mechanism(struct chv_p11_token *token, CK_MECHANISM_TYPE mechanism, CK_FLAGS flags,
                                     CK_MECHANISM_INFO *info, struct chv_why *why)
{
    CK_MECHANISM_INFO found;
    enum chv_err err = chv_p11_module_enter(token->module, why);
    if (err != CHV_OK)
        return err;
    (void)pthread_mutex_lock(&token->module->lock);
    CK_SLOT_ID slot = token->slot;
    (void)pthread_mutex_unlock(&token->module->lock);
    CK_RV rv = token->module->fn->C_GetMechanismInfo(slot, mechanism, &found);
    chv_p11_module_leave(token->module);
    if (rv != CKR_OK)
        return chv_p11_fail(why, token->name, "C_GetMechanismInfo", mechanism, rv);
    if ((found.flags & flags) != flags)
        return chv_fail(why, CHV_ERR_UNSUPPORTED, "%s: has %s, but not for this use (flags 0x%lx, wanted 0x%lx)",
                        token->name, chv_p11_mechanism_name(mechanism), found.flags, flags);
    if (info != NULL)
        *info = found;
    return CHV_OK;
}

/* ---- logging in ---- */

static bool user_state(CK_STATE state)
{
    return state == CKS_RO_USER_FUNCTIONS || state == CKS_RW_USER_FUNCTIONS;
}

static void set_logged_in(struct chv_p11_token *t, bool in)
{
    (void)pthread_mutex_lock(&t->module->lock);
    t->wanted = t->wanted || in;
    t->logged_in = in;
    (void)pthread_mutex_unlock(&t->module->lock);
}

static bool same_mark(const struct chv_p11_pin_mark *a, const struct chv_p11_pin_mark *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
}

static enum chv_err get_pin(struct chv_p11_token *t, chv_secret_fn secret, void *arg, bool again,
                            const CK_TOKEN_INFO *raw, char *pin, size_t *len, struct chv_p11_pin_mark *mark,
                            struct chv_why *why)
{
    char prompt[CHV_P11_OBJECT_MAX + 64];
    struct chv_p11_token_info info;
    enum chv_err err;
    *mark = (struct chv_p11_pin_mark){0};
    if (t->uri.pin_file != NULL) {
        err = chv_p11_pin_read(t->uri.pin_file, pin, len, mark, why);
        if (err == CHV_OK && again && t->pin_refused && same_mark(mark, &t->pin_mark))
            err = chv_fail(why, CHV_ERR_PASSPHRASE,
                           "%s: the PIN in %s was wrong and is not tried again before the file changes", t->name,
                           t->uri.pin_file);
        return err;
    }
    if (secret == NULL)
        return chv_fail(
            why, CHV_ERR_STORE_LOCKED,
            "%s: the login was lost: its PIN must be given again (with pin-source=file:PATH it is read again)",
            t->name);
    chv_p11_token_convert(raw, t->slot, &info);
    (void)snprintf(prompt, sizeof prompt, "PIN of token %s (serial %s)", info.label, info.serial);
    for (char *p = prompt; *p != '\0'; p++)
        if (*p == ':')
            *p = '?';
    err = secret(arg, prompt, 0, pin, CHV_P11_PIN_MAX, len, why);
    if (err == CHV_OK && (*len == 0 || *len > CHV_P11_PIN_MAX))
        err = chv_fail(why, CHV_ERR_NO_SECRET, "%s: a PIN has 1 to %d characters", t->name, CHV_P11_PIN_MAX);
    return err;
}

/* Wrong PINs count: what the token says of its counter is read before a try. */
static enum chv_err check_tries(const struct chv_p11_token *t, CK_FLAGS flags, struct chv_why *why)
{
    if ((flags & CKF_USER_PIN_LOCKED) != 0)
        return chv_fail(why, CHV_ERR_PASSPHRASE,
                        "%s: CKF_USER_PIN_LOCKED: the PIN is locked after too many wrong ones: the security officer "
                        "must set a new one; nothing was tried",
                        t->name);
    if ((flags & CKF_USER_PIN_FINAL_TRY) != 0 && !t->uri.final_try)
        return chv_fail(why, CHV_ERR_PASSPHRASE,
                        "%s: CKF_USER_PIN_FINAL_TRY: one more wrong PIN locks it; nothing was tried: make sure of the "
                        "PIN, then add chaveiro-final-try=yes to the URI once",
                        t->name);
    return CHV_OK;
}

static enum chv_err login_once(struct chv_p11_token *t, CK_SESSION_HANDLE session, const CK_TOKEN_INFO *info,
                               chv_secret_fn secret, void *arg, bool again, CK_RV *rv, struct chv_why *why)
{
    char pin[CHV_P11_PIN_MAX + 1] = "";
    size_t len = 0;
    struct chv_p11_pin_mark mark = {0};
    bool keypad = (info->flags & CKF_PROTECTED_AUTHENTICATION_PATH) != 0;
    enum chv_err err = check_tries(t, info->flags, why);
    if (err == CHV_OK && keypad && again && t->pin_refused)
        err =
            chv_fail(why, CHV_ERR_PASSPHRASE,
                     "%s: the PIN that was typed at the token was wrong: it is not asked for again by itself", t->name);
    if (err == CHV_OK && !keypad)
        err = get_pin(t, secret, arg, again, info, pin, &len, &mark, why);
    if (err != CHV_OK)
        goto out;
    *rv = t->module->fn->C_Login(session, CKU_USER, keypad ? NULL : (CK_UTF8CHAR_PTR)pin, len);
    if (*rv == CKR_USER_ALREADY_LOGGED_IN)
        *rv = CKR_OK;
    if (*rv == CKR_PIN_INCORRECT && t->uri.pin_file != NULL && !keypad)
        err = chv_fail(why, CHV_ERR_PASSPHRASE,
                       "%s: C_Login: CKR_PIN_INCORRECT (0x%lx): the PIN in %s is wrong: put the right one there; it is "
                       "not tried again before the file changes",
                       t->name, *rv, t->uri.pin_file);
    else if (*rv != CKR_OK)
        err = chv_p11_fail(why, t->name, "C_Login", CHV_P11_NO_MECHANISM, *rv);
    if (err == CHV_OK || err == CHV_ERR_PASSPHRASE) { /* any other answer says nothing of the PIN */
        t->pin_refused = err == CHV_ERR_PASSPHRASE;
        t->pin_mark = mark;
    }
out:
    chv_wipe(pin, sizeof pin);
    return err;
}

enum chv_err chv_p11_token_authenticate(struct chv_p11_token *token, CK_SESSION_HANDLE session, chv_secret_fn secret,
                                        void *arg, bool again, CK_RV *rv, struct chv_why *why)
{
    CK_FUNCTION_LIST *fn = token->module->fn;
    CK_SESSION_INFO info;
    CK_TOKEN_INFO token_info;
    const char *call = "C_GetSessionInfo";
    enum chv_err err = CHV_OK;
    (void)pthread_mutex_lock(&token->login_lock);
    *rv = fn->C_GetSessionInfo(session, &info);
    if (*rv == CKR_OK && !user_state(info.state)) {
        set_logged_in(token, false);
        call = "C_GetTokenInfo";
        *rv = fn->C_GetTokenInfo(info.slotID, &token_info);
        if (*rv == CKR_OK && (token_info.flags & CKF_LOGIN_REQUIRED) != 0)
            err = login_once(token, session, &token_info, secret, arg, again, rv, why);
    }
    if (err == CHV_OK && *rv != CKR_OK)
        err = chv_p11_fail(why, token->name, call, CHV_P11_NO_MECHANISM, *rv);
    if (err == CHV_OK)
        set_logged_in(token, true);
    (void)pthread_mutex_unlock(&token->login_lock);
    return err;
}

enum chv_err chv_p11_token_login(struct chv_p11_token *token, chv_secret_fn secret, void *arg, struct chv_why *why)
{
    struct chv_p11_session *s;
    CK_RV rv;
    enum chv_err err = chv_p11_session_take_rv(token, false, &s, &rv, why);
    if (err == CHV_OK) {
        err = chv_p11_token_authenticate(token, s->handle, secret, arg, false, &rv, why);
        s->rv = rv;
        chv_p11_session_give(s);
    }
    return err;
}

bool chv_p11_token_logged_in(struct chv_p11_token *token)
{
    (void)pthread_mutex_lock(&token->module->lock);
    bool in = token->logged_in;
    (void)pthread_mutex_unlock(&token->module->lock);
    return in;
}
