/* SPDX-License-Identifier: Apache-2.0 */
/* Names of files, as both sides of the service `files` write them (doc/protocol.md, section 5). */
#ifndef CHV_SERVICES_FILES_PATH_H
#define CHV_SERVICES_FILES_PATH_H

#include <stddef.h>

enum { CHV_FILES_PATH_MAX = 1024, CHV_FILES_NAME_MAX = 255 };

/* What the server's unfinished files are called, with text behind it: not a name for a client. */
#define CHV_FILES_PART ".chv-part-"

/* A path's first character if its first name is that of a shared folder. */
#define CHV_FILES_SHARE '@'

/*
 * NULL for a path that may be used, else why not (static text): components between single slashes, none of them empty,
 * ".", ".." or the server's own, UTF-8 without control characters, CHV_FILES_NAME_MAX bytes each and
 * CHV_FILES_PATH_MAX in all. "" is the client's home.
 */
const char *chv_files_path_check(const char *path, size_t len);

/* Its last component; for a checked path. */
const char *chv_files_path_name(const char *path);

#endif
