/* SPDX-License-Identifier: Apache-2.0 */
#include "net/service.h"

#include <stdarg.h>
#include <stdio.h>

#include "net/control.h"

enum chv_err chv_service_status(struct chv_conn *conn, unsigned code, const char *format, ...)
{
    struct chv_status status = {.code = code};
    uint8_t map[CHV_CONTROL_MAX];
    size_t len = sizeof map;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(status.text, sizeof status.text, format, args);
    va_end(args);
    if (n < 0)
        return CHV_ERR_ARGUMENT;
    enum chv_err err = chv_status_encode(&status, map, &len);
    return err == CHV_OK ? chv_conn_send(conn, CHV_RECORD_STATUS, map, len) : err;
}
