/* SPDX-License-Identifier: Apache-2.0 */
#include "net/control.h"

#include <pthread.h>
#include <string.h>
#include <sys/random.h>

#include "net/map.h"
#include "net/text.h"

/* A number of at most `max`. */
static enum chv_err get_uint(const struct cbor_item_t *map, const char *key, uint64_t max, uint64_t *out)
{
    uint64_t value = 0;
    enum chv_err err = chv_map_uint(map, key, &value);
    if (err == CHV_OK && value > max)
        err = CHV_ERR_MALFORMED;
    if (err == CHV_OK)
        *out = value;
    return err;
}

static enum chv_err get_code(const struct cbor_item_t *map, unsigned *code)
{
    uint64_t value = 0;
    enum chv_err err = chv_map_uint(map, "code", &value);
    if (err == CHV_OK && (value < CHV_STATUS_CODE_MIN || value > CHV_STATUS_CODE_MAX))
        err = CHV_ERR_MALFORMED;
    if (err == CHV_OK)
        *code = (unsigned)value;
    return err;
}

/* 1 to `max` characters out of [A-Za-z0-9._-] and `more`. */
static bool is_name(const char *name, size_t max, const char *more)
{
    size_t len = strnlen(name, max + 1);
    if (len == 0 || len > max)
        return false;
    for (size_t i = 0; i < len; i++) {
        const char c = name[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
              c == '-' || strchr(more, c) != NULL))
            return false;
    }
    return true;
}

bool chv_tunnel_name_valid(const char *name)
{
    static const char characters[] = "abcdefghijklmnopqrstuvwxyz0123456789._-";
    const size_t len = strnlen(name, CHV_OPEN_TUNNEL_MAX + 1);
    return len > 0 && len <= CHV_OPEN_TUNNEL_MAX && strspn(name, characters) == len;
}

static struct {
    pthread_once_t once;
    bool made;
    uint8_t bytes[CHV_INSTANCE_LEN];
} instance = {.once = PTHREAD_ONCE_INIT};

static void make_instance(void)
{
    instance.made = getrandom(instance.bytes, sizeof instance.bytes, 0) == (ssize_t)sizeof instance.bytes;
}

enum chv_err chv_open_instance(struct chv_open *open)
{
    if (pthread_once(&instance.once, make_instance) != 0 || !instance.made)
        return CHV_ERR_IO;
    open->has_instance = true;
    memcpy(open->instance, instance.bytes, sizeof open->instance);
    return CHV_OK;
}

enum chv_err chv_open_encode(const struct chv_open *open, uint8_t *out, size_t *len)
{
    struct chv_map_writer w = {.out = out, .cap = *len};
    size_t name = strnlen(open->service, sizeof open->service);
    bool tunnel = open->tunnel[0] != '\0';
    if (name == 0 || name == sizeof open->service || !chv_text_is_utf8(open->service, name) ||
        open->tickets > CHV_OPEN_TICKETS_MAX || (tunnel && !chv_tunnel_name_valid(open->tunnel)))
        return CHV_ERR_ARGUMENT;
    chv_map_begin(&w, 1U + open->has_instance + (open->tickets > 0) + tunnel);
    chv_map_put_text(&w, "service", open->service);
    if (open->has_instance)
        chv_map_put_bytes(&w, "instance", open->instance, sizeof open->instance);
    if (open->tickets > 0)
        chv_map_put_uint(&w, "tickets", open->tickets);
    if (tunnel)
        chv_map_put_text(&w, "tunnel", open->tunnel);
    return chv_map_end(&w, len);
}

static bool grant_is_good(const struct chv_grant *grant)
{
    if (grant->ticket_len == 0 || grant->ticket_len > sizeof grant->ticket || grant->lifetime == 0)
        return false;
    return grant->host[0] == '\0' || (grant->port != 0 && is_name(grant->host, CHV_GRANT_HOST_MAX, ":"));
}

enum chv_err chv_grant_encode(const struct chv_grant *grant, uint8_t *out, size_t *len)
{
    struct chv_map_writer w = {.out = out, .cap = *len};
    if (!grant_is_good(grant))
        return CHV_ERR_ARGUMENT;
    chv_map_begin(&w, 3U + (grant->port != 0) + (grant->host[0] != '\0'));
    chv_map_put_bytes(&w, "ticket", grant->ticket, grant->ticket_len);
    chv_map_put_uint(&w, "number", grant->number);
    chv_map_put_uint(&w, "lifetime", grant->lifetime);
    if (grant->port != 0)
        chv_map_put_uint(&w, "port", grant->port);
    if (grant->host[0] != '\0')
        chv_map_put_text(&w, "host", grant->host);
    return chv_map_end(&w, len);
}

enum chv_err chv_status_encode(const struct chv_status *status, uint8_t *out, size_t *len)
{
    struct chv_map_writer w = {.out = out, .cap = *len};
    size_t text = strnlen(status->text, sizeof status->text);
    if (status->code < CHV_STATUS_CODE_MIN || status->code > CHV_STATUS_CODE_MAX || text == sizeof status->text ||
        !chv_text_is_utf8(status->text, text))
        return CHV_ERR_ARGUMENT;
    chv_map_begin(&w, 2);
    chv_map_put_uint(&w, "code", status->code);
    chv_map_put_text(&w, "text", status->text);
    return chv_map_end(&w, len);
}

enum chv_err chv_open_decode(const uint8_t *buf, size_t len, struct chv_open *open)
{
    struct cbor_item_t *map = NULL;
    struct chv_open read = {0};
    uint64_t tickets = 0;
    enum chv_err err = chv_map_load(buf, len, &map);
    if (err != CHV_OK)
        return err;
    err = chv_map_text(map, "service", read.service, sizeof read.service);
    if (err == CHV_OK && read.service[0] == '\0')
        err = CHV_ERR_MALFORMED;
    read.has_instance = chv_map_has(map, "instance");
    if (err == CHV_OK && read.has_instance)
        err = chv_map_bytes(map, "instance", read.instance, sizeof read.instance);
    if (err == CHV_OK && chv_map_has(map, "tickets"))
        err = get_uint(map, "tickets", CHV_OPEN_TICKETS_MAX, &tickets);
    read.tickets = (unsigned)tickets;
    if (err == CHV_OK && chv_map_has(map, "tunnel"))
        err = chv_map_text(map, "tunnel", read.tunnel, sizeof read.tunnel);
    if (err == CHV_OK && chv_map_has(map, "tunnel") && !chv_tunnel_name_valid(read.tunnel))
        err = CHV_ERR_MALFORMED;
    if (err == CHV_OK)
        *open = read;
    chv_map_free(map);
    return err;
}

static enum chv_err get_redirect(const struct cbor_item_t *map, struct chv_grant *grant)
{
    uint64_t port = 0;
    enum chv_err err = CHV_OK;
    if (chv_map_has(map, "port"))
        err = get_uint(map, "port", UINT16_MAX, &port);
    if (err == CHV_OK && chv_map_has(map, "port") && port == 0)
        err = CHV_ERR_MALFORMED;
    if (err == CHV_OK && chv_map_has(map, "host")) {
        err = chv_map_text(map, "host", grant->host, sizeof grant->host);
        if (err == CHV_OK && grant->host[0] == '\0')
            err = CHV_ERR_MALFORMED;
    }
    grant->port = (uint16_t)port;
    return err;
}

enum chv_err chv_grant_decode(const uint8_t *buf, size_t len, struct chv_grant *grant)
{
    struct cbor_item_t *map = NULL;
    struct chv_grant read = {.ticket_len = sizeof read.ticket};
    uint64_t number = 0, lifetime = 0;
    enum chv_err err = chv_map_load(buf, len, &map);
    if (err != CHV_OK)
        return err;
    err = chv_map_bytes_up_to(map, "ticket", read.ticket, &read.ticket_len);
    if (err == CHV_OK)
        err = get_uint(map, "number", UINT32_MAX, &number);
    if (err == CHV_OK)
        err = get_uint(map, "lifetime", UINT32_MAX, &lifetime);
    if (err == CHV_OK)
        err = get_redirect(map, &read);
    read.number = (uint32_t)number;
    read.lifetime = (uint32_t)lifetime;
    if (err == CHV_OK && !grant_is_good(&read))
        err = CHV_ERR_MALFORMED;
    if (err == CHV_OK)
        *grant = read;
    chv_map_free(map);
    return err;
}

enum chv_err chv_status_decode(const uint8_t *buf, size_t len, struct chv_status *status)
{
    struct cbor_item_t *map = NULL;
    struct chv_status read;
    enum chv_err err = chv_map_load(buf, len, &map);
    if (err != CHV_OK)
        return err;
    err = get_code(map, &read.code);
    if (err == CHV_OK)
        err = chv_map_text(map, "text", read.text, sizeof read.text);
    if (err == CHV_OK)
        *status = read;
    chv_map_free(map);
    return err;
}
