/* SPDX-License-Identifier: Apache-2.0 */
#include "net/source.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

enum { KIND_UNIX = 1, KIND_V4 = 4, KIND_V6 = 6 };

static uint64_t make(unsigned kind, const uint8_t *prefix, size_t len)
{
    uint64_t source = kind;
    for (size_t i = 0; i < 7; i++)
        source = source << 8 | (i < len ? prefix[i] : 0u);
    return source;
}

uint64_t chv_source_of(const struct sockaddr *address)
{
    uint8_t bytes[16];
    if (address->sa_family == AF_INET) {
        memcpy(bytes, &((const struct sockaddr_in *)(const void *)address)->sin_addr, 4);
        return make(KIND_V4, bytes, 3);
    }
    if (address->sa_family == AF_INET6) {
        const struct in6_addr *v6 = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
        memcpy(bytes, v6, 16);
        return IN6_IS_ADDR_V4MAPPED(v6) ? make(KIND_V4, bytes + 12, 3) : make(KIND_V6, bytes, 6);
    }
    return make(KIND_UNIX, bytes, 0);
}

void chv_source_text(const struct sockaddr *address, char out[CHV_PEER_TEXT])
{
    char host[INET6_ADDRSTRLEN];
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const void *)address;
        inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
        snprintf(out, CHV_PEER_TEXT, "%s:%u", host, ntohs(v4->sin_port));
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const void *)address;
        inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
        snprintf(out, CHV_PEER_TEXT, "[%s]:%u", host, ntohs(v6->sin6_port));
    } else {
        snprintf(out, CHV_PEER_TEXT, "unix");
    }
}

uint16_t chv_source_port(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET)
        return ntohs(((const struct sockaddr_in *)(const void *)address)->sin_port);
    if (address->sa_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)(const void *)address)->sin6_port);
    return 0;
}

/* The finalizer of splitmix64: every input bit moves every output bit. */
uint64_t chv_source_hash(uint64_t source, uint64_t seed)
{
    uint64_t x = source ^ seed;
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}
