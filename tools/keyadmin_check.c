/* SPDX-License-Identifier: Apache-2.0 */
/* keyadmin check: what kind of keystore a file is, its keys and their check values. */
#include "tools/keyadmin.h"

#include <string.h>
#include <sysexits.h>

#include "base/encode.h"

enum { CHECK_KEYS_MAX = 512 };

struct check_list {
    struct chv_key_info keys[CHECK_KEYS_MAX];
    size_t count;
};

static enum chv_err check_on_key(void *arg, const struct chv_key_info *info)
{
    struct check_list *list = arg;
    if (list->count == CHECK_KEYS_MAX)
        return CHV_ERR_SPACE;
    list->keys[list->count++] = *info;
    return CHV_OK;
}

static bool check_has(const struct check_list *list, const char *prefix)
{
    for (size_t i = 0; i < list->count; i++)
        if (strncmp(list->keys[i].label, prefix, strlen(prefix)) == 0)
            return true;
    return false;
}

static const char *check_kind(const struct check_list *list)
{
    if (check_has(list, "master:"))
        return check_has(list, "access:") ? "server and client" : "server";
    return check_has(list, "access:") ? "client" : "neither a server's nor a client's";
}

/* {"label": ..., "use": ..., "key_check": ...} */
static enum chv_err check_key(struct chv_keystore *ks, const struct chv_key_info *info, json_t *keys,
                              struct chv_why *why)
{
    uint8_t value[CHV_SECRET_LEN];
    json_t *key = json_object();
    bool master = strncmp(info->label, "master:", strlen("master:")) == 0;
    if (key == NULL || json_array_append_new(keys, key) != 0)
        return CHV_ERR_MEMORY;
    (void)json_object_set_new(key, "label", json_string(info->label));
    if (info->use != CHV_USE_SECRET) {
        (void)json_object_set_new(key, "use", json_string(info->use == CHV_USE_IDENTITY ? "identity" : "receipt"));
        (void)json_object_set_new(key, "curve", json_string(chv_curve_name(info->curve)));
        return CHV_OK;
    }
    enum chv_err err = chv_provision_check_stored(ks, info->label, value, why);
    if (err != CHV_OK)
        return err;
    (void)json_object_set_new(key, "use", json_string("secret"));
    keyadmin_put_hex(key, "key_check", value, master ? CHV_CHECK_MASTER_LEN : CHV_CHECK_CLIENT_LEN);
    return CHV_OK;
}

static void check_print_people(const json_t *result)
{
    size_t i;
    json_t *key;
    json_t *head = json_copy((json_t *)(uintptr_t)result); /* jansson has no const copy */
    (void)json_object_del(head, "keys");
    chv_cli_print(head, false);
    printf("\n%-24s %-10s %s\n", "LABEL", "USE", "KEY CHECK");
    json_array_foreach(json_object_get(result, "keys"), i, key)
    {
        const char *value = json_string_value(json_object_get(key, "key_check"));
        printf("%-24s %-10s %s\n", json_string_value(json_object_get(key, "label")),
               json_string_value(json_object_get(key, "use")), value != NULL ? value : "-");
    }
}

static enum chv_err check_report(struct chv_keystore *ks, const char *file, bool json, struct chv_why *why)
{
    char text[CHV_ADDRESS_MAX + 1];
    struct check_list list = {.count = 0};
    enum chv_err err = chv_keystore_list(ks, check_on_key, &list, why);
    if (err != CHV_OK)
        return err;
    json_t *result = json_object();
    json_t *keys = json_array();
    if (result == NULL || keys == NULL) {
        json_decref(keys);
        err = CHV_ERR_MEMORY;
        goto out;
    }
    (void)json_object_set_new(result, chv_token_uri_is(file) ? "token" : "file", json_string(file));
    (void)json_object_set_new(result, "kind", json_string(check_kind(&list)));
    if (chv_provision_text(ks, "server", text, sizeof text, NULL) == CHV_OK)
        (void)json_object_set_new(result, "server", json_string(text));
    if (chv_provision_text(ks, "address", text, sizeof text, NULL) == CHV_OK)
        (void)json_object_set_new(result, "address", json_string(text));
    (void)json_object_set_new(result, "keys", keys);
    for (size_t i = 0; err == CHV_OK && i < list.count; i++)
        err = check_key(ks, &list.keys[i], keys, why);
    if (err == CHV_OK && json)
        chv_cli_print(json_incref(result), true);
    else if (err == CHV_OK)
        check_print_people(result);
out:
    json_decref(result);
    return err;
}

int keyadmin_check(const struct chv_cli_args *args)
{
    struct chv_why why = {""};
    struct chv_keystore *ks = NULL;

    enum chv_err err = keyadmin_open_operand(args, &ks, &why);
    if (err == CHV_OK)
        err = check_report(ks, args->operands[0], chv_cli_given(args, "json"), &why);
    chv_keystore_close(ks);
    return err == CHV_OK ? EX_OK : chv_cli_why(err, &why);
}
