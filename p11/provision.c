/* SPDX-License-Identifier: Apache-2.0 */
#include "p11/provision.h"

#include <libp11.h>
#include <openssl/err.h>

#include <stdio.h>
#include <string.h>

#include "p11/module.h"

/* A libp11 context with the slots that it found. */
struct view {
    const char *path;
    PKCS11_CTX *ctx;
    bool loaded;
    PKCS11_SLOT *slots;
    unsigned count;
};

/* libp11 leaves the CKR_ of a failed call in OpenSSL's queue. */
static enum chv_err libp11_fail(const struct view *v, const char *what, struct chv_why *why)
{
    unsigned long entry = ERR_peek_last_error();
    bool answer = entry != 0 && ERR_GET_LIB(entry) == ERR_get_CKR_code();
    ERR_clear_error();
    if (answer)
        return chv_p11_fail(why, v->path, what, CHV_P11_NO_MECHANISM, (CK_RV)ERR_GET_REASON(entry));
    return chv_fail(why, CHV_ERR_UNAVAILABLE, "%s: %s failed", v->path, what);
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
        err = libp11_fail(v, "C_Initialize", why);
    else if (PKCS11_enumerate_slots(v->ctx, &v->slots, &v->count) != 0)
        err = libp11_fail(v, "C_GetSlotList", why);
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
        {token->soPinLocked, CKF_SO_PIN_LOCKED},
        {token->secureLogin, CKF_PROTECTED_AUTHENTICATION_PATH},
    };
    for (size_t i = 0; i < sizeof map / sizeof map[0]; i++)
        flags |= map[i].on ? map[i].flag : 0;
    return flags;
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
        (void)snprintf(info.label, sizeof info.label, "%s", token->label != NULL ? token->label : "");
        (void)snprintf(info.manufacturer, sizeof info.manufacturer, "%s",
                       token->manufacturer != NULL ? token->manufacturer : "");
        (void)snprintf(info.model, sizeof info.model, "%s", token->model != NULL ? token->model : "");
        (void)snprintf(info.serial, sizeof info.serial, "%s", token->serialnr != NULL ? token->serialnr : "");
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

static enum chv_err set_pin(struct view *v, const char *label, const char *so_pin, const char *pin, struct chv_why *why)
{
    for (unsigned i = 0; i < v->count; i++) {
        PKCS11_SLOT *slot = &v->slots[i];
        if (slot->token == NULL || slot->token->label == NULL || strcmp(slot->token->label, label) != 0)
            continue;
        if (PKCS11_open_session(slot, 1) != 0)
            return libp11_fail(v, "C_OpenSession", why);
        if (PKCS11_login(slot, 1, so_pin) != 0)
            return libp11_fail(v, "C_Login as the security officer", why);
        enum chv_err err = PKCS11_init_pin(slot->token, pin) == 0 ? CHV_OK : libp11_fail(v, "C_InitPIN", why);
        (void)PKCS11_logout(slot);
        return err;
    }
    return chv_fail(why, CHV_ERR_UNAVAILABLE, "%s: token \"%s\" was initialised but is not there", v->path, label);
}

enum chv_err chv_p11_token_init(const char *module_path, const char *init_args, const char *label, const char *so_pin,
                                const char *pin, struct chv_why *why)
{
    struct view v;
    PKCS11_SLOT *slot = NULL;
    char padded[33];
    size_t len = strlen(label);
    if (len == 0 || len > 32)
        return chv_fail(why, CHV_ERR_ARGUMENT, "a token's label has 1 to 32 bytes, this one %zu", len);
    enum chv_err err = view_open(&v, module_path, init_args, why);
    if (err != CHV_OK)
        return err;
    /* C_InitToken reads 32 bytes, whatever libp11 is given (PKCS #11 2.40, 5.5) */
    (void)snprintf(padded, sizeof padded, "%-32s", label);
    err = find_free(&v, label, &slot, why);
    if (err == CHV_OK && slot != NULL && PKCS11_init_token(slot->token, so_pin, padded) != 0)
        err = libp11_fail(&v, "C_InitToken", why);
    view_close(&v);
    if (err != CHV_OK)
        return err;
    /* the slot's number changes with the token (SoftHSM takes it from the serial number): look anew */
    err = view_open(&v, module_path, init_args, why);
    if (err == CHV_OK)
        err = set_pin(&v, label, so_pin, pin, why);
    view_close(&v);
    return err;
}
