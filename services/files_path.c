/* SPDX-License-Identifier: Apache-2.0 */
#include "services/files_path.h"

#include <stdbool.h>
#include <string.h>

#include "net/text.h"

static bool has_controls(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return true;
    return false;
}

static const char *check_name(const char *name, size_t len)
{
    if (len == 0)
        return "a part of the name is empty";
    if (len > CHV_FILES_NAME_MAX)
        return "a part of the name is longer than 255 bytes";
    if ((len == 1 && name[0] == '.') || (len == 2 && name[0] == '.' && name[1] == '.'))
        return "'.' and '..' are not for names here";
    if (len >= strlen(CHV_FILES_PART) && memcmp(name, CHV_FILES_PART, strlen(CHV_FILES_PART)) == 0)
        return "names that begin with " CHV_FILES_PART " are the server's own";
    return NULL;
}

const char *chv_files_path_check(const char *path, size_t len)
{
    if (len > CHV_FILES_PATH_MAX)
        return "the name is longer than 1024 bytes";
    if (has_controls(path, len))
        return "the name has control characters";
    if (!chv_text_is_utf8(path, len))
        return "the name is not UTF-8";
    for (size_t at = 0; len > 0 && at <= len;) {
        const char *slash = memchr(path + at, '/', len - at);
        const size_t end = slash != NULL ? (size_t)(slash - path) : len;
        const char *wrong = check_name(path + at, end - at);
        if (wrong != NULL)
            return wrong;
        at = end + 1;
    }
    return NULL;
}

const char *chv_files_path_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}
