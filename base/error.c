/* SPDX-License-Identifier: Apache-2.0 */
#include <chaveiro/error.h>

#include <stdarg.h>
#include <stdio.h>

const char *chv_err_text(enum chv_err err)
{
    switch (err) {
#define ERROR_TEXT(code, name, text)                                                                                   \
    case CHV_ERR_##name:                                                                                               \
        return text;
        CHV_ERROR_MAP(ERROR_TEXT)
#undef ERROR_TEXT
    default:
        return "unknown error";
    }
}

const char *chv_err_name(enum chv_err err)
{
    switch (err) {
#define ERROR_NAME(code, name, text)                                                                                   \
    case CHV_ERR_##name:                                                                                               \
        return #name;
        CHV_ERROR_MAP(ERROR_NAME)
#undef ERROR_NAME
    default:
        return "?";
    }
}

int chv_err_is_fatal(enum chv_err err)
{
    return (int)err <= -30 && (int)err >= -59;
}

enum chv_err chv_fail(struct chv_why *why, enum chv_err err, const char *format, ...)
{
    if (why != NULL) {
        va_list args;
        va_start(args, format);
        if (vsnprintf(why->text, sizeof why->text, format, args) < 0)
            why->text[0] = '\0';
        va_end(args);
    }
    return err;
}
