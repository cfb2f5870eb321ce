/* SPDX-License-Identifier: Apache-2.0 */
#include "net/control.h"

#include <pthread.h>
#include <string.h>
#include <sys/random.h>

#include "net/map.h"
#include "net/text.h"

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
    if (name == 0 || name == sizeof open->service || !chv_text_is_utf8(open->service, name))
        return CHV_ERR_ARGUMENT;
    chv_map_begin(&w, open->has_instance ? 2 : 1);
    chv_map_put_text(&w, "service", open->service);
    if (open->has_instance)
        chv_map_put_bytes(&w, "instance", open->instance, sizeof open->instance);
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
    enum chv_err err = chv_map_load(buf, len, &map);
    if (err != CHV_OK)
        return err;
    err = chv_map_text(map, "service", read.service, sizeof read.service);
    if (err == CHV_OK && read.service[0] == '\0')
        err = CHV_ERR_MALFORMED;
    read.has_instance = chv_map_has(map, "instance");
    if (err == CHV_OK && read.has_instance)
        err = chv_map_bytes(map, "instance", read.instance, sizeof read.instance);
    if (err == CHV_OK)
        *open = read;
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
