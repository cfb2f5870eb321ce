/* SPDX-License-Identifier: Apache-2.0 */
/* The form of an address. */
#include "tools/provision.h"

#include <stdlib.h>
#include <string.h>

enum { PROVISION_PORT_DIGITS = 5, PROVISION_UNIX_MAX = 107 /* sun_path, unix(7) */ };

static bool provision_port_valid(const char *port)
{
    size_t n = strspn(port, "0123456789");
    return n > 0 && n <= PROVISION_PORT_DIGITS && port[n] == 0 && strtoul(port, NULL, 10) <= UINT16_MAX;
}

static bool provision_address_valid(const char *address)
{
    static const char unix_prefix[] = "unix:/";
    size_t len = strlen(address);
    const char *colon = strrchr(address, ':');
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)address[i] <= ' ' || address[i] == 0x7f)
            return false;
    if (len > CHV_ADDRESS_MAX)
        return false;
    if (strncmp(address, unix_prefix, sizeof unix_prefix - 1) == 0)
        return len >= sizeof unix_prefix && len - strlen("unix:") <= PROVISION_UNIX_MAX;
    if (colon == NULL || colon == address || !provision_port_valid(colon + 1))
        return false;
    if (address[0] == '[')
        return colon[-1] == ']' && colon - address > 2;
    return memchr(address, ':', (size_t)(colon - address)) == NULL;
}

enum chv_err chv_provision_address(const char *address, struct chv_why *why)
{
    if (!provision_address_valid(address))
        return chv_fail(why, CHV_ERR_ARGUMENT, "bad address '%.80s': write HOST:PORT, [IPv6]:PORT or unix:/PATH",
                        address);
    return CHV_OK;
}
