/* SPDX-License-Identifier: Apache-2.0 */
/* keyadmin token list, token init, and what commands share about tokens. */
#include "tools/keyadmin.h"

#include <string.h>
#include <sysexits.h>

#include "p11/provision.h"

/* --- options -------------------------------------------------------------------------------------------------------
 */

enum chv_err keyadmin_no_token_options(const struct chv_cli_args *args, struct chv_why *why)
{
    static const char *const options[] = {"module", "pin-file", "pin-fd", "so-pin-file", "ask-pin"};
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        if (chv_cli_given(args, options[i]))
            return chv_fail(why, CHV_ERR_ARGUMENT, "--%s is for tokens: give --keystore pkcs11:token=NAME too",
                            options[i]);
    return CHV_OK;
}

void keyadmin_put_token(json_t *object, const struct chv_token_plan *token)
{
    (void)json_object_set_new(object, "token_made", json_boolean(token->made));
    if (token->pin_file[0] != 0)
        (void)json_object_set_new(object, "pin_file", json_string(token->pin_file));
    if (token->so_pin_file[0] != 0)
        (void)json_object_set_new(object, "so_pin_file", json_string(token->so_pin_file));
}

/* --- list ----------------------------------------------------------------------------------------------------------
 */

json_t *keyadmin_token_flags(const struct chv_p11_token_info *info)
{
    static const struct {
        CK_FLAGS flag;
        const char *words;
    } words[] = {
        {CKF_USER_PIN_INITIALIZED, "PIN set"},
        {CKF_LOGIN_REQUIRED, "login required"},
        {CKF_RNG, "random generator"},
        {CKF_PROTECTED_AUTHENTICATION_PATH, "PIN typed at the token"},
        {CKF_WRITE_PROTECTED, "read-only"},
        {CKF_USER_PIN_COUNT_LOW, "a wrong PIN was tried"},
        {CKF_USER_PIN_FINAL_TRY, "one more wrong PIN locks it"},
        {CKF_USER_PIN_LOCKED, "PIN LOCKED"},
        {CKF_SO_PIN_FINAL_TRY, "one more wrong SO PIN locks that"},
        {CKF_SO_PIN_LOCKED, "SO PIN LOCKED"},
    };
    json_t *flags = json_array();
    if ((info->flags & CKF_TOKEN_INITIALIZED) == 0) { /* the others mean nothing yet */
        (void)json_array_append_new(flags, json_string("free: not initialised"));
        return flags;
    }
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if ((info->flags & words[i].flag) != 0)
            (void)json_array_append_new(flags, json_string(words[i].words));
    return flags;
}

static enum chv_err token_on_token(void *arg, const struct chv_p11_token_info *info)
{
    json_t *tokens = arg, *token = json_object();
    if (token == NULL || json_array_append_new(tokens, token) != 0)
        return CHV_ERR_MEMORY;
    (void)json_object_set_new(token, "label", json_string(info->label));
    (void)json_object_set_new(token, "manufacturer", json_string(info->manufacturer));
    (void)json_object_set_new(token, "model", json_string(info->model));
    (void)json_object_set_new(token, "serial", json_string(info->serial));
    (void)json_object_set_new(token, "initialised", json_boolean((info->flags & CKF_TOKEN_INITIALIZED) != 0));
    (void)json_object_set_new(token, "flags", keyadmin_token_flags(info));
    return CHV_OK;
}

/* A cell of the table, escaped and filled up. */
static void token_cell(const json_t *token, const char *name, int width)
{
    const char *text = json_string_value(json_object_get(token, name));
    size_t len = text != NULL ? strlen(text) : 0;
    if (len == 0)
        len = strlen(text = "-");
    chv_cli_put_escaped(stdout, text, len, false);
    printf("%*s", (int)len < width ? width - (int)len : 1, "");
}

static void token_print_list(const json_t *tokens)
{
    size_t i, k;
    json_t *token, *flag;
    printf("%-24s %-24s %-16s %-16s %s\n", "LABEL", "MANUFACTURER", "MODEL", "SERIAL", "STATE");
    json_array_foreach(tokens, i, token)
    {
        token_cell(token, "label", 25);
        token_cell(token, "manufacturer", 25);
        token_cell(token, "model", 17);
        token_cell(token, "serial", 17);
        json_array_foreach(json_object_get(token, "flags"), k, flag)
            printf("%s%s", k > 0 ? ", " : "", json_string_value(flag));
        printf("\n");
    }
}

int keyadmin_token_list(const struct chv_cli_args *args)
{
    struct chv_why why = {""};
    const char *module = chv_cli_value(args, "module");
    json_t *tokens = json_array();
    enum chv_err err = tokens == NULL ? CHV_ERR_MEMORY : chv_p11_token_list(module, NULL, token_on_token, tokens, &why);
    if (err == CHV_OK && chv_cli_given(args, "json"))
        chv_cli_print(json_incref(tokens), true);
    else if (err == CHV_OK && json_array_size(tokens) == 0)
        (void)chv_cli_fail(EX_OK, "%s: %s", module != NULL ? module : "p11-kit",
                           module != NULL
                               ? "it has no tokens"
                               : "its modules have no tokens, or fail: --module PATH asks one of them and tells why");
    else if (err == CHV_OK)
        token_print_list(tokens);
    json_decref(tokens);
    return err == CHV_OK ? EX_OK : chv_cli_why(err, &why);
}

/* --- init ----------------------------------------------------------------------------------------------------------
 */

int keyadmin_token_init(const struct chv_cli_args *args)
{
    struct chv_why why = {""};
    struct chv_token_plan plan;
    const struct chv_token_wish wish = {.uri = args->operands[0],
                                        .module = chv_cli_value(args, "module"),
                                        .folder = ".",
                                        .pin_file = chv_cli_value(args, "pin-file"),
                                        .so_pin_file = chv_cli_value(args, "so-pin-file"),
                                        .ask = chv_cli_given(args, "ask-pin")};
    json_t *o = NULL;

    chv_cli_hold_signals();
    enum chv_err err = chv_token_plan(&wish, &plan, &why);
    if (err == CHV_OK && plan.label[0] == 0)
        err = chv_fail(&why, CHV_ERR_EXISTS, "%.300s: the token is there already and is left as it is", plan.uri);
    if (err == CHV_OK)
        err = chv_token_make(&plan, &why);
    if (err == CHV_OK && (o = json_object()) == NULL)
        err = CHV_ERR_MEMORY;
    if (err == CHV_OK) {
        (void)json_object_set_new(o, "token", json_string(plan.uri));
        keyadmin_put_token(o, &plan);
        chv_cli_print(o, chv_cli_given(args, "json"));
    }
    int code = err == CHV_OK ? EX_OK : chv_cli_why(err, &why);
    chv_cli_release_signals();
    return code;
}
