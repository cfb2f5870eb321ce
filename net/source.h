/* SPDX-License-Identifier: Apache-2.0 */
/* Where a connection comes from, coarse enough that one site counts as one: for rate limits and fair queues. */
#ifndef CHV_NET_SOURCE_H
#define CHV_NET_SOURCE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum { CHV_PEER_TEXT = 64 }; /* "[V6]:PORT" with its NUL */

/*
 * IPv4 /24 (also of a mapped address), IPv6 /48; all unix sockets are one source. 0 is never a source.
 */
uint64_t chv_source_of(const struct sockaddr *address);
/* "192.0.2.1:4711", "[2001:db8::1]:4711", "unix". */
void chv_source_text(const struct sockaddr *address, char out[CHV_PEER_TEXT]);

/* Its port; 0: it has none. */
uint16_t chv_source_port(const struct sockaddr *address);

/* Spreads a source over a table; `seed` is random, so that nobody can choose sources that collide. Not cryptographic.
 */
uint64_t chv_source_hash(uint64_t source, uint64_t seed);

#endif
