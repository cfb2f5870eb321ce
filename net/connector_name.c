/* SPDX-License-Identifier: Apache-2.0 */
/* Where a target is: its parts, and names, each of which is resolved once for all who wait for it. */
#include "config.h"

#include "net/connector_internal.h"

#include <stdlib.h>
#include <string.h>

static const char unix_scheme[] = "unix:";

bool chv_connector_target_split(const char *target, char host[CHV_CONNECTOR_HOST_MAX + 1],
                                char port[CHV_CONNECTOR_PORT_MAX + 1])
{
    const char *colon = strrchr(target, ':'), *start = target;
    size_t len = colon != NULL ? (size_t)(colon - target) : 0;
    if (len == 0)
        return false;
    const bool v6 = len > 2 && target[0] == '[' && colon[-1] == ']';
    if (v6) {
        start++;
        len -= 2;
    }
    const size_t digits = strlen(colon + 1);
    if (digits == 0 || digits > CHV_CONNECTOR_PORT_MAX || strspn(colon + 1, "0123456789") != digits)
        return false;
    const long number = strtol(colon + 1, NULL, 10);
    if (number < 1 || number > 65535 || len > CHV_CONNECTOR_HOST_MAX || (!v6 && memchr(start, ':', len) != NULL))
        return false;
    memcpy(host, start, len);
    host[len] = '\0';
    memcpy(port, colon + 1, digits + 1);
    return strpbrk(host, "[] \t") == NULL;
}

static bool unix_target(const char *target, struct address *address)
{
    const size_t head = sizeof unix_scheme - 1;
    if (strncmp(target, unix_scheme, head) != 0)
        return false;
    const size_t len = strlen(target + head);
    if (target[head] != '/' || len < 2 || len >= sizeof address->local.sun_path)
        return false;
    memset(address, 0, sizeof *address);
    address->len = sizeof address->local;
    address->local.sun_family = AF_UNIX;
    memcpy(address->local.sun_path, target + head, len + 1);
    return true;
}

bool chv_connector_target_valid(const char *target)
{
    char host[CHV_CONNECTOR_HOST_MAX + 1], port[CHV_CONNECTOR_PORT_MAX + 1];
    struct address address;
    if (strlen(target) >= CHV_TUNNEL_TARGET_LEN)
        return false;
    if (strncmp(target, unix_scheme, sizeof unix_scheme - 1) == 0)
        return unix_target(target, &address);
    return chv_connector_target_split(target, host, port);
}

static void take_addresses(struct addresses *out, const struct addrinfo *list)
{
    out->count = 0;
    for (; list != NULL && out->count < ADDRESSES_MAX; list = list->ai_next) {
        struct address *address = &out->list[out->count];
        if (list->ai_addrlen > sizeof address->v6 || (list->ai_family != AF_INET && list->ai_family != AF_INET6))
            continue;
        address->len = list->ai_addrlen;
        memcpy(&address->any, list->ai_addr, list->ai_addrlen);
        out->count++;
    }
}

void chv_connector_leave(struct attempt *a)
{
    if (a->lookup == NULL)
        return;
    struct attempt **at = &a->lookup->waiting;
    while (*at != a)
        at = &(*at)->next_waiting;
    *at = a->next_waiting;
    a->lookup = NULL;
}

static void fail_for_name(struct attempt *a, int status)
{
    if (status == 0 || status == UV_EAI_NONAME || status == UV_EAI_NODATA)
        chv_connector_fail(a, CHV_CONNECTOR_FAILED, "%s: no such host", a->target);
    else
        chv_connector_fail(a, CHV_CONNECTOR_FAILED, "%s: the name cannot be resolved: %s", a->target,
                           uv_strerror(status));
}

/* Nobody waits for it, it is of no configured tunnel's any more, or the connector is gone. */
static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *list)
{
    struct lookup *l = request->data;
    l->resolving = false;
    if (l->connector == NULL) {
        uv_freeaddrinfo(list);
        free(l);
        return;
    }
    if (status == 0)
        take_addresses(&l->addresses, list);
    else
        l->addresses.count = 0;
    uv_freeaddrinfo(list);
    l->resolved = l->addresses.count > 0 ? uv_now(l->connector->loop) : 0;
    while (l->waiting != NULL) {
        struct attempt *a = l->waiting;
        chv_connector_leave(a);
        if (l->addresses.count > 0)
            chv_connector_dial(a, &l->addresses);
        else
            fail_for_name(a, status);
    }
}

static int resolve(struct chv_connector *c, struct lookup *l)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    l->request.data = l;
    int rc = c->resolve(c->loop, &l->request, on_resolved, l->host, l->port, &hints);
    l->resolving = rc == 0;
    return rc;
}

/* The lookup of this name; NULL: no memory. */
static struct lookup *find_lookup(struct chv_connector *c, const char *host, const char *port)
{
    for (struct lookup *l = c->lookups; l != NULL; l = l->next)
        if (strcmp(l->host, host) == 0 && strcmp(l->port, port) == 0)
            return l;
    struct lookup *l = calloc(1, sizeof *l);
    if (l == NULL)
        return NULL;
    l->connector = c;
    l->next = c->lookups;
    c->lookups = l;
    memcpy(l->host, host, strlen(host) + 1);
    memcpy(l->port, port, strlen(port) + 1);
    return l;
}

/* An address is no name: it needs no thread, and no file. */
static bool numeric(const char *host, const char *port, struct addresses *out)
{
    const int number = (int)strtol(port, NULL, 10);
    struct address *address = &out->list[0];
    memset(address, 0, sizeof *address);
    out->count = 1;
    if (uv_ip4_addr(host, number, &address->v4) == 0)
        address->len = sizeof address->v4;
    else if (uv_ip6_addr(host, number, &address->v6) == 0)
        address->len = sizeof address->v6;
    else
        out->count = 0;
    return out->count == 1;
}

void chv_connector_find(struct attempt *a)
{
    struct chv_connector *c = a->peer->connector;
    char host[CHV_CONNECTOR_HOST_MAX + 1], port[CHV_CONNECTOR_PORT_MAX + 1];
    struct addresses addresses;
    if (unix_target(a->target, &addresses.list[0])) {
        addresses.count = 1;
        chv_connector_dial(a, &addresses);
        return;
    }
    if (!chv_connector_target_split(a->target, host, port)) { /* not by way of the configuration */
        chv_connector_fail(a, CHV_CONNECTOR_FAILED, "%s: no address", a->target);
        return;
    }
    if (numeric(host, port, &addresses)) {
        chv_connector_dial(a, &addresses);
        return;
    }
    struct lookup *l = find_lookup(c, host, port);
    if (l != NULL && l->resolved != 0 && uv_now(c->loop) - l->resolved < c->fresh_ms) {
        chv_connector_dial(a, &l->addresses);
        return;
    }
    const int rc = l == NULL ? UV_ENOMEM : l->resolving ? 0 : resolve(c, l);
    if (rc != 0) {
        chv_connector_fail(a, CHV_CONNECTOR_UNAVAILABLE, "%s: the name cannot be resolved: %s", a->target,
                           uv_strerror(rc));
        return;
    }
    a->lookup = l;
    a->next_waiting = l->waiting;
    l->waiting = a;
}

void chv_connector_forget_names(struct chv_connector *c)
{
    struct lookup **at = &c->lookups;
    while (*at != NULL) {
        struct lookup *l = *at;
        l->resolved = 0;
        if (l->resolving || l->waiting != NULL) {
            at = &l->next;
            continue;
        }
        *at = l->next;
        free(l);
    }
}

void chv_connector_end_names(struct chv_connector *c)
{
    while (c->lookups != NULL) {
        struct lookup *l = c->lookups;
        c->lookups = l->next;
        l->connector = NULL; /* one that is out frees itself */
        if (l->resolving)
            (void)uv_cancel((uv_req_t *)&l->request);
        else
            free(l);
    }
}
