/* SPDX-License-Identifier: Apache-2.0 */
#include "p11/uri.h"

#include <p11-kit/uri.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where an attribute stands: before the '?' (';' between them) or after it ('&'), RFC 7512, 2.3. */
enum part { PATH, QUERY };

static const struct attribute {
    const char *name;
    enum part part;
    size_t max;         /* bytes when decoded: what CK_TOKEN_INFO has room for, or our own limit */
    const char *refuse; /* NULL, or why it is not taken */
} attributes[] = {
    {"token", PATH, 32, NULL},
    {"manufacturer", PATH, 32, NULL},
    {"model", PATH, 16, NULL},
    {"serial", PATH, 16, NULL},
    {"slot-id", PATH, 10, NULL},
    {"object", PATH, CHV_P11_OBJECT_MAX, NULL},
    {"id", PATH, 0, "objects are found by name: use object="},
    {"type", PATH, 0, "each use has its own kind of object: leave it out"},
    {"library-manufacturer", PATH, 0, "name the module by module-path="},
    {"library-description", PATH, 0, "name the module by module-path="},
    {"library-version", PATH, 0, "name the module by module-path="},
    {"slot-manufacturer", PATH, 0, "name the token by token= or serial="},
    {"slot-description", PATH, 0, "name the token by token= or serial="},
    {"module-path", QUERY, 1024, NULL},
    {"module-name", QUERY, 0, "name the module by module-path="},
    {"pin-source", QUERY, 1024, NULL},
    {"pin-value", QUERY, 0, "a PIN in a URI is seen in process lists and logs: use pin-source=file:PATH"},
    {"chaveiro-init", QUERY, 1024, NULL},
    {"chaveiro-derive", QUERY, 15, NULL},
    {"chaveiro-session-copy", QUERY, 3, NULL},
    {"chaveiro-final-try", QUERY, 3, NULL},
    {"chaveiro-objects", QUERY, 9, NULL},
};
enum { ATTRIBUTE_COUNT = sizeof attributes / sizeof attributes[0] };

static const struct attribute *find_attribute(const char *name, size_t len, enum part part)
{
    for (size_t i = 0; i < ATTRIBUTE_COUNT; i++)
        if (attributes[i].part == part && strlen(attributes[i].name) == len &&
            memcmp(attributes[i].name, name, len) == 0)
            return &attributes[i];
    return NULL;
}

/* Bytes of a value once percent-decoded (the encoding itself is p11-kit's to check); zero bytes are told. */
static size_t decoded_length(const char *value, size_t len, bool *zero)
{
    size_t n = 0;
    *zero = false;
    for (size_t i = 0; i < len; n++) {
        if (value[i] == '%') {
            *zero = *zero || (i + 2 < len && value[i + 1] == '0' && value[i + 2] == '0');
            i += 3;
        } else {
            i++;
        }
    }
    return n;
}

/* One `name=value`.  The value is never shown: it may be a PIN. */
static enum chv_err check_pair(const char *pair, size_t len, enum part part, unsigned *seen, struct chv_why *why)
{
    const char *equals = memchr(pair, '=', len);
    if (equals == NULL || equals == pair)
        return chv_fail(why, CHV_ERR_CONFIG, "PKCS #11 URI: '%.*s' is not name=value (RFC 7512)",
                        len < 32 && equals == NULL ? (int)len : 0, pair);
    size_t name_len = (size_t)(equals - pair);
    const struct attribute *a = find_attribute(pair, name_len, part);
    if (a == NULL)
        return chv_fail(why, CHV_ERR_CONFIG, "PKCS #11 URI: attribute '%.*s' is not known %s the '?'",
                        name_len < 64 ? (int)name_len : 64, pair, part == PATH ? "before" : "behind");
    if (a->refuse != NULL)
        return chv_fail(why, CHV_ERR_CONFIG, "PKCS #11 URI: '%s' is refused: %s", a->name, a->refuse);
    unsigned bit = 1U << (unsigned)(a - attributes);
    if ((*seen & bit) != 0)
        return chv_fail(why, CHV_ERR_CONFIG, "PKCS #11 URI: '%s' stands twice in it", a->name);
    *seen |= bit;
    bool zero;
    size_t value_len = decoded_length(equals + 1, len - name_len - 1, &zero);
    if (value_len == 0 || zero)
        return chv_fail(why, CHV_ERR_CONFIG, "PKCS #11 URI: '%s' is empty or has a zero byte", a->name);
    if (value_len > a->max)
        return chv_fail(why, CHV_ERR_CONFIG, "PKCS #11 URI: '%s' has %zu bytes: at most %zu are allowed", a->name,
                        value_len, a->max);
    return CHV_OK;
}

static enum chv_err check_part(const char *text, size_t len, enum part part, unsigned *seen, struct chv_why *why)
{
    const char separator = part == PATH ? ';' : '&';
    while (len > 0) {
        const char *end = memchr(text, separator, len);
        size_t n = end == NULL ? len : (size_t)(end - text);
        enum chv_err err = check_pair(text, n, part, seen, why);
        if (err != CHV_OK)
            return err;
        if (end != NULL && n + 1 == len)
            return chv_fail(why, CHV_ERR_CONFIG, "PKCS #11 URI: nothing stands behind the last '%c'", separator);
        text += end == NULL ? n : n + 1;
        len -= end == NULL ? n : n + 1;
    }
    return CHV_OK;
}

/* What p11-kit's parser lets pass: unknown and repeated attributes, values that can match nothing. */
static enum chv_err check_text(const char *text, struct chv_why *why)
{
    static const char scheme[] = "pkcs11:";
    unsigned seen = 0, token = 0;
    _Static_assert(ATTRIBUTE_COUNT <= 32, "one bit each");
    size_t len = strnlen(text, CHV_P11_URI_MAX + 1);
    if (len > CHV_P11_URI_MAX)
        return chv_fail(why, CHV_ERR_CONFIG, "PKCS #11 URI: longer than %d bytes", CHV_P11_URI_MAX);
    if (strncmp(text, scheme, strlen(scheme)) != 0)
        return chv_fail(why, CHV_ERR_CONFIG, "PKCS #11 URI: does not begin with 'pkcs11:'");
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] <= ' ' || (unsigned char)text[i] >= 0x7f)
            return chv_fail(why, CHV_ERR_CONFIG, "PKCS #11 URI: white space and non-ASCII bytes are written as %%XX");
    const char *path = text + strlen(scheme);
    size_t path_len = strcspn(path, "?");
    enum chv_err err = check_part(path, path_len, PATH, &seen, why);
    if (err == CHV_OK && path[path_len] == '?')
        err = check_part(path + path_len + 1, strlen(path + path_len + 1), QUERY, &seen, why);
    if (err != CHV_OK)
        return err;
    for (unsigned i = 0; i < 5; i++) /* token to slot-id */
        token |= seen & (1U << i);
    if (token == 0)
        return chv_fail(why, CHV_ERR_CONFIG, "PKCS #11 URI: names no token: write pkcs11:token=LABEL or serial=...");
    return CHV_OK;
}

static enum chv_err copy_text(const char *from, char **to, struct chv_why *why)
{
    *to = from == NULL ? NULL : strdup(from);
    return from == NULL || *to != NULL ? CHV_OK : chv_fail(why, CHV_ERR_MEMORY, "PKCS #11 URI: out of memory");
}

static enum chv_err take_pin_source(const char *source, struct chv_p11_uri *uri, struct chv_why *why)
{
    static const char file[] = "file:";
    if (source == NULL)
        return CHV_OK;
    if (source[0] == '|')
        return chv_fail(why, CHV_ERR_CONFIG,
                        "PKCS #11 URI: pin-source is a command: nothing is run to get a PIN, use pin-source=file:PATH");
    if (strncmp(source, file, strlen(file)) == 0)
        source += strlen(file);
    if (strncmp(source, "///", 3) == 0) /* RFC 8089: file:///path */
        source += 2;
    if (source[0] != '/' || source[1] == '/')
        return chv_fail(why, CHV_ERR_CONFIG, "PKCS #11 URI: pin-source must be file:/ABSOLUTE/PATH");
    return copy_text(source, &uri->pin_file, why);
}

static enum chv_err take_switch(const P11KitUri *parsed, const char *name, bool *on, struct chv_why *why)
{
    const char *value = p11_kit_uri_get_vendor_query(parsed, name);
    if (value != NULL && strcmp(value, "yes") != 0 && strcmp(value, "no") != 0)
        return chv_fail(why, CHV_ERR_CONFIG, "PKCS #11 URI: %s is yes or no", name);
    *on = value != NULL && value[0] == 'y';
    return CHV_OK;
}

/* At most nine digits (the table above), so it fits. */
static enum chv_err take_objects(P11KitUri *parsed, unsigned long *objects, struct chv_why *why)
{
    const char *text = p11_kit_uri_get_vendor_query(parsed, "chaveiro-objects");
    if (text == NULL)
        return CHV_OK;
    const unsigned long n = strtoul(text, NULL, 10);
    if (strspn(text, "0123456789") != strlen(text) || n == 0)
        return chv_fail(why, CHV_ERR_CONFIG, "PKCS #11 URI: chaveiro-objects is a number from 1");
    *objects = n;
    return CHV_OK;
}

static enum chv_err take_options(struct chv_p11_uri *uri, struct chv_why *why)
{
    P11KitUri *parsed = uri->parsed;
    const CK_ATTRIBUTE *object = p11_kit_uri_get_attribute(parsed, CKA_LABEL);
    if (object != NULL && object->ulValueLen <= CHV_P11_OBJECT_MAX) {
        memcpy(uri->object, object->pValue, object->ulValueLen);
        uri->object[object->ulValueLen] = '\0';
    }
    const char *derive = p11_kit_uri_get_vendor_query(parsed, "chaveiro-derive");
    if (derive != NULL && strcmp(derive, "hmac") != 0 && strcmp(derive, "hkdf") != 0 &&
        strcmp(derive, "sp800-108") != 0)
        return chv_fail(why, CHV_ERR_CONFIG, "PKCS #11 URI: chaveiro-derive is hmac, hkdf or sp800-108");
    if (derive != NULL)
        (void)snprintf(uri->derive, sizeof uri->derive, "%s", derive);
    enum chv_err err = take_switch(parsed, "chaveiro-session-copy", &uri->session_copy, why);
    if (err == CHV_OK)
        err = take_switch(parsed, "chaveiro-final-try", &uri->final_try, why);
    if (err == CHV_OK)
        err = take_objects(parsed, &uri->objects, why);
    if (err == CHV_OK)
        err = copy_text(p11_kit_uri_get_vendor_query(parsed, "chaveiro-init"), &uri->init_args, why);
    if (err == CHV_OK)
        err = copy_text(p11_kit_uri_get_module_path(parsed), &uri->module_path, why);
    if (err == CHV_OK && uri->module_path != NULL && uri->module_path[0] != '/')
        err = chv_fail(why, CHV_ERR_CONFIG, "PKCS #11 URI: module-path must be an absolute path");
    return err != CHV_OK ? err : take_pin_source(p11_kit_uri_get_pin_source(parsed), uri, why);
}

enum chv_err chv_p11_uri_parse(const char *text, struct chv_p11_uri *uri, struct chv_why *why)
{
    *uri = (struct chv_p11_uri){.parsed = NULL};
    enum chv_err err = check_text(text, why);
    if (err != CHV_OK)
        return err;
    uri->parsed = p11_kit_uri_new();
    uri->text = strdup(text);
    if (uri->parsed == NULL || uri->text == NULL) {
        chv_p11_uri_free(uri);
        return chv_fail(why, CHV_ERR_MEMORY, "PKCS #11 URI: out of memory");
    }
    int code = p11_kit_uri_parse(text, P11_KIT_URI_FOR_ANY, uri->parsed);
    if (code != P11_KIT_URI_OK)
        err = chv_fail(why, CHV_ERR_CONFIG, "PKCS #11 URI: %s", p11_kit_uri_message(code));
    else if (p11_kit_uri_any_unrecognized(uri->parsed))
        err = chv_fail(why, CHV_ERR_CONFIG, "PKCS #11 URI: has an attribute that is not known");
    else
        err = take_options(uri, why);
    if (err != CHV_OK)
        chv_p11_uri_free(uri);
    return err;
}

void chv_p11_uri_free(struct chv_p11_uri *uri)
{
    p11_kit_uri_free(uri->parsed);
    free(uri->text);
    free(uri->module_path);
    free(uri->pin_file);
    free(uri->init_args);
    *uri = (struct chv_p11_uri){.parsed = NULL};
}

bool chv_p11_uri_matches(const struct chv_p11_uri *uri, CK_SLOT_ID slot, const CK_TOKEN_INFO *info)
{
    CK_SLOT_ID wanted = p11_kit_uri_get_slot_id(uri->parsed);
    return p11_kit_uri_match_token_info(uri->parsed, info) == 1 && (wanted == (CK_SLOT_ID)-1 || wanted == slot);
}

bool chv_p11_uri_label(const struct chv_p11_uri *uri, char out[33])
{
    const CK_TOKEN_INFO *info = p11_kit_uri_get_token_info(uri->parsed);
    size_t len = sizeof info->label;
    /* p11-kit: what a URI does not name is zeros */
    if (info->label[0] == '\0' || info->manufacturerID[0] != '\0' || info->model[0] != '\0' ||
        info->serialNumber[0] != '\0' || p11_kit_uri_get_slot_id(uri->parsed) != (CK_SLOT_ID)-1)
        return false;
    while (len > 0 && info->label[len - 1] == ' ')
        len--;
    memcpy(out, info->label, len);
    out[len] = '\0';
    return len > 0;
}

bool chv_p11_uri_token_only(const struct chv_p11_uri *uri, char *out, size_t size)
{
    static const char name[] = "object=";
    const char *text = uri->text, *path = strchr(text, ':') + 1, *end = path + strcspn(path, "?");
    const char *from = path;
    while (from < end && strncmp(from, name, strlen(name)) != 0)
        from += strcspn(from, ";?") + (from[strcspn(from, ";?")] == ';');
    const char *to = from + (from < end ? strcspn(from, ";?") : 0);
    if (from < end && *to == ';')
        to++;
    else if (from < end && from > path)
        from--; /* the last one: its ';' stands before it */
    const int n = snprintf(out, size, "%.*s%s", (int)(from - text), text, to);
    return n >= 0 && (size_t)n < size;
}

void chv_p11_uri_describe(const struct chv_p11_uri *uri, char *out, size_t size)
{
    char *text = NULL;
    int code = p11_kit_uri_format(uri->parsed, P11_KIT_URI_FOR_TOKEN | P11_KIT_URI_FOR_SLOT, &text);
    (void)snprintf(out, size, "%.*s", code == P11_KIT_URI_OK && text != NULL ? (int)strcspn(text, "?") : 7,
                   code == P11_KIT_URI_OK && text != NULL ? text : "pkcs11:"); /* without the query */
    free(text);
}
