/* SPDX-License-Identifier: Apache-2.0 */
#include <chaveiro/backend.h>

#include "backends/openssl.h"
#include "backends/pkcs11.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

/* The one list of backends: the table and the text that people read. */
static const struct chv_backend *const backends[] = {
    &chv_backend_openssl,
    &chv_backend_pkcs11,
};
static const char names[] = "openssl, pkcs11";

#define BACKEND_COUNT (sizeof backends / sizeof backends[0])

static const struct chv_backend *find(const char *name, size_t len)
{
    for (size_t i = 0; i < BACKEND_COUNT; i++)
        if (strlen(backends[i]->name) == len && memcmp(backends[i]->name, name, len) == 0)
            return backends[i];
    return NULL;
}

const struct chv_backend *chv_backend_find(const char *name)
{
    return find(name, strlen(name));
}

const char *chv_backend_names(void)
{
    return names;
}

enum chv_err chv_backend_open(const char *spec, struct chv_crypto *crypto, struct chv_why *why)
{
    *crypto = (struct chv_crypto){0};
    size_t name_len = strcspn(spec, ":");
    const struct chv_backend *backend = find(spec, name_len);
    if (backend == NULL)
        return chv_fail(why, CHV_ERR_CONFIG, "backend \"%.*s\" is unknown: choose one of %s",
                        name_len < 64 ? (int)name_len : 64, spec, names);
    void *memory = calloc(1, backend->context_size);
    if (memory == NULL)
        return chv_fail(why, CHV_ERR_MEMORY, "no memory for backend \"%s\"", backend->name);
    enum chv_err err = chv_crypto_open(crypto, backend, memory, spec[name_len] == ':' ? spec : "", why);
    if (err != CHV_OK)
        free(memory);
    return err;
}

void chv_backend_close(struct chv_crypto *crypto)
{
    if (crypto == NULL || crypto->backend == NULL)
        return;
    void *memory = crypto->ctx;
    size_t size = crypto->backend->context_size;
    chv_crypto_close(crypto);
    chv_wipe(memory, size);
    free(memory);
}
