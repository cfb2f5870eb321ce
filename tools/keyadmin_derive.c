/* SPDX-License-Identifier: Apache-2.0 */
/* keyadmin derive --explain: every input of an access key's derivation but the master secret (doc/protocol.md, 2). */
#include "tools/keyadmin.h"

#include <inttypes.h>
#include <string.h>
#include <sysexits.h>

#include "base/bytes.h"
#include "base/encode.h"
#include "core/hkdf.h"
#include "tools/times.h"

enum { DERIVE_NAME_MAX = 32, DERIVE_VALUE_MAX = 128, DERIVE_HEX_LINE = 32 };

/* One field of the credential: where it stands and what it says. */
static void derive_field(json_t *fields, const struct chv_provision *p, struct chv_reader *r, size_t len,
                         const char *name, const char *value)
{
    size_t offset = p->len - r->left;
    const uint8_t *bytes = chv_read_bytes(r, len);
    json_t *field = json_object();
    if (field == NULL || bytes == NULL || json_array_append_new(fields, field) != 0)
        return;
    (void)json_object_set_new(field, "offset", json_integer((json_int_t)offset));
    (void)json_object_set_new(field, "length", json_integer((json_int_t)len));
    (void)json_object_set_new(field, "field", json_string(name));
    keyadmin_put_hex(field, "bytes", bytes, len);
    (void)json_object_set_new(field, "value", json_string(value));
}

static void derive_number(json_t *fields, const struct chv_provision *p, struct chv_reader *r, size_t len,
                          const char *name, uint64_t value)
{
    char text[DERIVE_VALUE_MAX];
    (void)snprintf(text, sizeof text, "%" PRIu64, value);
    derive_field(fields, p, r, len, name, text);
}

/* The canonical encoding, field by field. */
static json_t *derive_fields(const struct chv_provision *p)
{
    const struct chv_credential *c = &p->credential;
    char name[DERIVE_NAME_MAX], value[DERIVE_VALUE_MAX], when[CHV_TIME_TEXT];
    struct chv_reader r;
    json_t *fields = json_array();
    if (fields == NULL)
        return NULL;
    chv_reader_init(&r, p->bytes, p->len);
    derive_number(fields, p, &r, 1, "version", p->bytes[0]);
    (void)snprintf(value, sizeof value, "%u (%s)", (unsigned)c->profile, chv_profile_name(c->profile));
    derive_field(fields, p, &r, 1, "profile", value);
    derive_number(fields, p, &r, 4, "epoch", c->epoch);
    derive_number(fields, p, &r, 4, "serial", c->serial);
    chv_time_format(c->not_after, when);
    (void)snprintf(value, sizeof value, "%" PRIu64 " (%s)", c->not_after, when);
    derive_field(fields, p, &r, 8, "not after", value);
    derive_number(fields, p, &r, 1, "id length", strlen(c->id));
    derive_field(fields, p, &r, strlen(c->id), "id", c->id);
    derive_number(fields, p, &r, 1, "identity length", c->has_identity ? CHV_IDENTITY_HASH_LEN : 0);
    if (c->has_identity)
        derive_field(fields, p, &r, CHV_IDENTITY_HASH_LEN, "identity hash", "");
    derive_number(fields, p, &r, 1, "scope count", c->scope_count);
    for (size_t i = 0; i < c->scope_count; i++) {
        (void)snprintf(name, sizeof name, "scope %zu length", i + 1);
        derive_number(fields, p, &r, 1, name, strlen(c->scopes[i]));
        (void)snprintf(name, sizeof name, "scope %zu", i + 1);
        derive_field(fields, p, &r, strlen(c->scopes[i]), name, c->scopes[i]);
    }
    return fields;
}

static enum chv_err derive_explain(const struct keyadmin_server *server, const struct chv_provision *p,
                                   const uint8_t check[CHV_SECRET_LEN], json_t **out)
{
    char text[DERIVE_VALUE_MAX];
    uint8_t info[CHV_INFO_MAX];
    size_t len = 0;
    enum chv_err err = chv_info_check(info, &len);
    json_t *o = json_object();
    if (o == NULL || err != CHV_OK) {
        json_decref(o);
        return err != CHV_OK ? err : CHV_ERR_MEMORY;
    }
    keyadmin_describe(o, &p->credential);
    (void)json_object_set_new(o, "server", json_string(server->name));
    (void)snprintf(text, sizeof text, "master:%" PRIu32, p->credential.epoch);
    (void)json_object_set_new(o, "master", json_string(text));
    (void)json_object_set_new(o, "label", json_string((const char *)p->info)); /* the info begins with it and a 0x00 */
    (void)json_object_set_new(o, "credential_length", json_integer((json_int_t)p->len));
    keyadmin_put_hex(o, "credential", p->bytes, p->len);
    (void)json_object_set_new(o, "fields", derive_fields(p));
    keyadmin_put_hex(o, "info", p->info, p->info_len);
    (void)json_object_set_new(o, "formula",
                              json_string("access key = HKDF-Expand(SHA-256, PRK = master, info, 32) = "
                                          "HMAC-SHA256(master, info || 0x01)"));
    (void)json_object_set_new(o, "check_label", json_string((const char *)info));
    keyadmin_put_hex(o, "check_info", info, len);
    (void)json_object_set_new(o, "check_formula",
                              json_string("key check value = first 4 bytes of HKDF-Expand(SHA-256, PRK = access key, "
                                          "check info, 32)"));
    keyadmin_put_hex(o, "key_check", check, CHV_CHECK_CLIENT_LEN);
    *out = o;
    return CHV_OK;
}

/* --- for people ----------------------------------------------------------------------------------------------------
 */

static const char *derive_text(const json_t *o, const char *name)
{
    const char *text = json_string_value(json_object_get(o, name));
    return text != NULL ? text : "";
}

/* Hex in lines of 32 bytes. */
static void derive_hex(const char *hex)
{
    for (size_t at = 0; hex[at] != 0;) {
        size_t n = strnlen(hex + at, (size_t)2 * DERIVE_HEX_LINE);
        printf("   %.*s\n", (int)n, hex + at);
        at += n;
    }
}

static void derive_print(const json_t *o)
{
    size_t i;
    json_t *field;
    bool bold = chv_cli_colour(stdout);
    const char *on = bold ? "\033[1m" : "", *off = bold ? "\033[0m" : "";

    printf("%sHow the access key of client '%s' comes about%s (doc/protocol.md, section 2)\n", on,
           derive_text(o, "client"), off);
    printf("\n%s1. The credential%s: public, %" JSON_INTEGER_FORMAT
           " bytes, in the client's keystore and its hello\n\n",
           on, off, json_integer_value(json_object_get(o, "credential_length")));
    printf("   offset length field             value\n");
    json_array_foreach(json_object_get(o, "fields"), i, field)
    {
        printf("   %6" JSON_INTEGER_FORMAT " %6" JSON_INTEGER_FORMAT " %-17s %-36s %s\n",
               json_integer_value(json_object_get(field, "offset")),
               json_integer_value(json_object_get(field, "length")), derive_text(field, "field"),
               derive_text(field, "value"), derive_text(field, "bytes"));
    }
    printf("\n");
    derive_hex(derive_text(o, "credential"));
    printf("\n%s2. The info%s: \"%s\" || 0x00 || u16 length of the credential || credential\n\n", on, off,
           derive_text(o, "label"));
    derive_hex(derive_text(o, "info"));
    printf("\n%s3. The access key%s: the secret is %s of server '%s', which stays in its keystore\n\n", on, off,
           derive_text(o, "master"), derive_text(o, "server"));
    printf("   %s\n", derive_text(o, "formula"));
    printf("   (RFC 5869, section 2.3; one block)\n");
    printf("\n%s4. The key check value%s: to compare keys without showing them\n\n", on, off);
    printf("   %s\n", derive_text(o, "check_formula"));
    printf("   check info: \"%s\" || 0x00 = %s\n", derive_text(o, "check_label"), derive_text(o, "check_info"));
    printf("\n   %s%s%s\n", on, derive_text(o, "key_check"), off);
}

int keyadmin_derive(const struct chv_cli_args *args)
{
    struct chv_why why = {""};
    struct keyadmin_server server = {0};
    struct chv_provision p = {0};
    uint8_t check[CHV_SECRET_LEN];
    json_t *explained = NULL;

    if (!chv_cli_given(args, "explain"))
        return chv_cli_fail(EX_USAGE,
                            "keys are never printed: 'keyadmin derive --explain ID' shows how one comes about");
    enum chv_err err = keyadmin_credential(args, &(struct keyadmin_server){.latest = 1}, &p, &why);
    if (err == CHV_OK && p.credential.profile == CHV_PROFILE_KEY)
        err = chv_fail(&why, CHV_ERR_ARGUMENT, "--profile key: it has no access key to derive");
    if (err == CHV_OK && p.credential.profile == CHV_PROFILE_KEY_PSK && !chv_cli_given(args, "identity"))
        err = chv_fail(&why, CHV_ERR_ARGUMENT,
                       "--profile key+psk: give --identity, the key that the credential is bound to");
    if (err == CHV_OK)
        err = keyadmin_server_open(args, &server, &why);
    if (err == CHV_OK)
        err = keyadmin_credential(args, &server, &p, &why);
    if (err == CHV_OK)
        err = chv_provision_check(server.keystore, &p, check, &why);
    if (err == CHV_OK)
        err = derive_explain(&server, &p, check, &explained);
    if (err == CHV_OK && chv_cli_given(args, "json"))
        chv_cli_print(json_incref(explained), true);
    else if (err == CHV_OK)
        derive_print(explained);
    json_decref(explained);
    keyadmin_server_close(&server);
    return err == CHV_OK ? EX_OK : chv_cli_why(err, &why);
}
