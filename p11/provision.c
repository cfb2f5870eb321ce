/* SPDX-License-Identifier: Apache-2.0 */
#include "p11/provision.h"

#include <libp11.h>
#include <openssl/err.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "p11/token_private.h"

/* A libp11 context with the slots that it found. */
struct view {
    const char *path;
    PKCS11_CTX *ctx;
    bool loaded;
    PKCS11_SLOT *slots;
    unsigned count;
};

/* libp11 leaves the CKR_ of a failed call in OpenSSL's queue; CKR_OK if there is none. */
static CK_RV take_answer(void)
{
    unsigned long entry = ERR_peek_last_error();
    bool answer = entry != 0 && ERR_GET_LIB(entry) == ERR_get_CKR_code();
    ERR_clear_error();
    return answer ? (CK_RV)ERR_GET_REASON(entry) : CKR_OK;
}

static enum chv_err libp11_fail(const char *where, const char *what, struct chv_why *why)
{
    CK_RV rv = take_answer();
    if (rv == CKR_OK)
        return chv_fail(why, CHV_ERR_UNAVAILABLE, "%s: %s failed", where, what);
    return chv_p11_fail(why, where, what, CHV_P11_NO_MECHANISM, rv);
}

static void view_close(struct view *v)
{
    if (v->slots != NULL)
        PKCS11_release_all_slots(v->ctx, v->slots, v->count);
    if (v->loaded)
        PKCS11_CTX_unload(v->ctx);
    if (v->ctx != NULL)
        PKCS11_CTX_free(v->ctx);
    ERR_clear_error();
    *v = (struct view){.path = v->path};
}

/* Loads the module; it must not be loaded already: libp11 finalises it in the end. */
static enum chv_err view_open(struct view *v, const char *path, const char *init_args, struct chv_why *why)
{
    struct chv_p11_module *probe;
    *v = (struct view){.path = path != NULL ? path : CHV_P11_DEFAULT_MODULE};
    if (chv_p11_module_loaded(path))
        return chv_fail(why, CHV_ERR_BUSY, "%s: is in use by this process: close its tokens first", v->path);
    /* our own loader says better what is wrong with a file */
    enum chv_err err = chv_p11_module_load(path, init_args, &probe, why);
    if (err != CHV_OK)
        return err;
    CK_ULONG slots = 0;
    bool none = probe->fn->C_GetSlotList(CK_FALSE, NULL, &slots) == CKR_OK && slots == 0;
    chv_p11_module_unload(probe);
    if (none) /* p11-kit without modules; libp11 takes that for a failure */
        return CHV_OK;
    v->ctx = PKCS11_CTX_new();
    if (v->ctx == NULL)
        return chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", v->path);
    if (init_args != NULL)
        PKCS11_CTX_init_args(v->ctx, init_args);
    v->loaded = PKCS11_CTX_load(v->ctx, v->path) == 0;
    if (!v->loaded)
        err = libp11_fail(v->path, "C_Initialize", why);
    else if (PKCS11_enumerate_slots(v->ctx, &v->slots, &v->count) != 0)
        err = libp11_fail(v->path, "C_GetSlotList, C_GetTokenInfo", why);
    if (err != CHV_OK)
        view_close(v);
    return err;
}

static CK_FLAGS flags_of(const PKCS11_TOKEN *token)
{
    CK_FLAGS flags = 0;
    const struct {
        unsigned char on;
        CK_FLAGS flag;
    } map[] = {
        {token->initialized, CKF_TOKEN_INITIALIZED},
        {token->loginRequired, CKF_LOGIN_REQUIRED},
        {token->userPinSet, CKF_USER_PIN_INITIALIZED},
        {token->readOnly, CKF_WRITE_PROTECTED},
        {token->hasRng, CKF_RNG},
        {token->userPinCountLow, CKF_USER_PIN_COUNT_LOW},
        {token->userPinFinalTry, CKF_USER_PIN_FINAL_TRY},
        {token->userPinLocked, CKF_USER_PIN_LOCKED},
        {token->soPinFinalTry, CKF_SO_PIN_FINAL_TRY},
        {token->soPinLocked, CKF_SO_PIN_LOCKED},
        {token->secureLogin, CKF_PROTECTED_AUTHENTICATION_PATH},
    };
    for (size_t i = 0; i < sizeof map / sizeof map[0]; i++)
        flags |= map[i].on ? map[i].flag : 0;
    return flags;
}

/* libp11's texts are as the token has them. */
static void show(const char *from, char *to, size_t size)
{
    const size_t len = from != NULL ? strnlen(from, size - 1) : 0;
    chv_p11_show((const unsigned char *)(from != NULL ? from : ""), len, to);
}

enum chv_err chv_p11_token_list(const char *module_path, const char *init_args, chv_p11_token_fn each, void *arg,
                                struct chv_why *why)
{
    struct view v;
    enum chv_err err = view_open(&v, module_path, init_args, why);
    if (err != CHV_OK)
        return err;
    for (unsigned i = 0; err == CHV_OK && i < v.count; i++) {
        const PKCS11_TOKEN *token = v.slots[i].token;
        struct chv_p11_token_info info = {.max_sessions = CK_UNAVAILABLE_INFORMATION};
        if (token == NULL)
            continue;
        info.slot = PKCS11_get_slotid_from_slot(&v.slots[i]);
        info.flags = flags_of(token);
        show(token->label, info.label, sizeof info.label);
        show(token->manufacturer, info.manufacturer, sizeof info.manufacturer);
        show(token->model, info.model, sizeof info.model);
        show(token->serialnr, info.serial, sizeof info.serial);
        err = each(arg, &info);
    }
    view_close(&v);
    return err;
}

/* A slot with a token that nobody has initialised. */
static enum chv_err find_free(const struct view *v, const char *label, PKCS11_SLOT **slot, struct chv_why *why)
{
    PKCS11_SLOT *found = NULL;
    for (unsigned i = 0; i < v->count; i++) {
        const PKCS11_TOKEN *token = v->slots[i].token;
        if (token == NULL)
            continue;
        if (token->initialized && token->label != NULL && strcmp(token->label, label) == 0)
            return chv_fail(why, CHV_ERR_EXISTS, "%s: has a token \"%s\" already: choose another label", v->path,
                            label);
        if (!token->initialized && found == NULL)
            found = &v->slots[i];
    }
    if (found == NULL)
        return chv_fail(why, CHV_ERR_NOT_FOUND, "%s: has no token that is free to be initialised", v->path);
    *slot = found;
    return CHV_OK;
}

/* ---- PINs ---- */

static const char so_locked[] = "the security officer's PIN is locked after too many wrong ones: only the module's own "
                                "tool can reset the token, which erases it";

/* For calls that try the security officer's PIN: what helps with a user's does not help here. */
static enum chv_err so_fail(const char *where, const char *call, CK_RV rv, struct chv_why *why)
{
    if (rv == CKR_PIN_LOCKED)
        return chv_fail(why, CHV_ERR_PASSPHRASE, "%s: %s: CKR_PIN_LOCKED: %s", where, call, so_locked);
    return chv_p11_fail(why, where, call, CHV_P11_NO_MECHANISM, rv);
}

/* The security officer's wrong PINs count too: what the token says of its counter is read before a login. */
static enum chv_err check_so_tries(const char *where, CK_FLAGS flags, struct chv_why *why)
{
    if ((flags & CKF_SO_PIN_LOCKED) != 0)
        return chv_fail(why, CHV_ERR_PASSPHRASE, "%s: CKF_SO_PIN_LOCKED: %s; nothing was tried", where, so_locked);
    if ((flags & CKF_SO_PIN_FINAL_TRY) != 0)
        return chv_fail(why, CHV_ERR_PASSPHRASE,
                        "%s: CKF_SO_PIN_FINAL_TRY: one more wrong PIN of the security officer locks it; nothing was "
                        "tried: log in once with the right one, by the module's own tool",
                        where);
    return CHV_OK;
}

/* The one token of the label. */
static enum chv_err find_label(const struct chv_p11_module *m, const char *where, const char *label, CK_SLOT_ID *slot,
                               CK_FLAGS *flags, struct chv_why *why)
{
    CK_SLOT_ID *slots = NULL;
    CK_ULONG count = 0;
    bool found = false;
    CK_RV failed = CKR_OK, rv = chv_p11_slots(m->fn, &slots, &count);
    for (CK_ULONG i = 0; rv == CKR_OK && !found && i < count; i++) {
        CK_TOKEN_INFO raw;
        struct chv_p11_token_info info;
        CK_RV answer = m->fn->C_GetTokenInfo(slots[i], &raw);
        if (answer != CKR_OK) {
            failed = answer;
            continue;
        }
        chv_p11_token_convert(&raw, slots[i], &info);
        found = (raw.flags & CKF_TOKEN_INITIALIZED) != 0 && strcmp(info.label, label) == 0;
        *slot = slots[i];
        *flags = raw.flags;
    }
    free(slots);
    if (rv != CKR_OK)
        return chv_p11_fail(why, where, "C_GetSlotList", CHV_P11_NO_MECHANISM, rv);
    if (!found && failed != CKR_OK)
        return chv_p11_fail(why, where, "C_GetTokenInfo", CHV_P11_NO_MECHANISM, failed);
    return found ? CHV_OK : chv_fail(why, CHV_ERR_UNAVAILABLE, "%s: was initialised but is not there", where);
}

static enum chv_err set_pin(const struct chv_p11_module *m, const char *where, const char *label, const char *so_pin,
                            const char *pin, struct chv_why *why)
{
    CK_SLOT_ID slot = 0;
    CK_FLAGS flags = 0;
    CK_SESSION_HANDLE session;
    enum chv_err err = find_label(m, where, label, &slot, &flags, why);
    if (err == CHV_OK)
        err = check_so_tries(where, flags, why);
    if (err != CHV_OK)
        return err;
    CK_RV rv = m->fn->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session);
    if (rv != CKR_OK)
        return chv_p11_fail(why, where, "C_OpenSession", CHV_P11_NO_MECHANISM, rv);
    rv = m->fn->C_Login(session, CKU_SO, (CK_UTF8CHAR_PTR)(uintptr_t)so_pin, strlen(so_pin));
    if (rv != CKR_OK)
        err = so_fail(where, "C_Login as the security officer", rv, why);
    else if ((rv = m->fn->C_InitPIN(session, (CK_UTF8CHAR_PTR)(uintptr_t)pin, strlen(pin))) != CKR_OK)
        err = chv_p11_fail(why, where, "C_InitPIN", CHV_P11_NO_MECHANISM, rv);
    (void)m->fn->C_CloseSession(session); /* the only one: the login ends with it (PKCS #11 2.40, 5.6) */
    return err;
}

/*
 * Not by libp11, which waits for ever when a session cannot be opened and keeps the PIN.  The slot's number may have
 * changed with the token (SoftHSM takes it from the serial number): it is looked for anew.
 */
static enum chv_err finish(const char *module_path, const char *init_args, const char *where, const char *label,
                           const char *so_pin, const char *pin, struct chv_why *why)
{
    struct chv_p11_module *m;
    enum chv_err err = chv_p11_module_load(module_path, init_args, &m, why);
    if (err != CHV_OK)
        return err;
    err = set_pin(m, where, label, so_pin, pin, why);
    chv_p11_module_unload(m);
    return err;
}

static enum chv_err init_fail(const char *where, struct chv_why *why)
{
    CK_RV rv = take_answer();
    if (rv == CKR_OK)
        return chv_fail(why, CHV_ERR_UNAVAILABLE, "%s: C_InitToken failed", where);
    return so_fail(where, "C_InitToken", rv, why);
}

enum chv_err chv_p11_token_init(const char *module_path, const char *init_args, const char *label, const char *so_pin,
                                const char *pin, struct chv_why *why)
{
    struct view v;
    PKCS11_SLOT *slot = NULL;
    char padded[33], where[512];
    size_t len = strlen(label);
    if (len == 0 || len > 32)
        return chv_fail(why, CHV_ERR_ARGUMENT, "a token's label has 1 to 32 bytes, this one %zu", len);
    enum chv_err err = view_open(&v, module_path, init_args, why);
    if (err != CHV_OK)
        return err;
    /* C_InitToken reads 32 bytes, whatever libp11 is given (PKCS #11 2.40, 5.5) */
    (void)snprintf(padded, sizeof padded, "%-32s", label);
    (void)snprintf(where, sizeof where, "token \"%s\" in %.384s", label, v.path);
    err = find_free(&v, label, &slot, why);
    if (err == CHV_OK && slot != NULL && PKCS11_init_token(slot->token, so_pin, padded) != 0)
        err = init_fail(where, why);
    view_close(&v);
    if (err != CHV_OK)
        return err;
    return finish(module_path, init_args, where, label, so_pin, pin, why);
}
