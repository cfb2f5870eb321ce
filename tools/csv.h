/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists of clients as text: comma-separated values (RFC 4180) with LF or CRLF, one record a line; a field in quotes may
 * hold commas and doubled quotes, but no line end.  Empty lines are passed over.
 */
#ifndef CHV_TOOLS_CSV_H
#define CHV_TOOLS_CSV_H

#include <chaveiro/error.h>

#include <stddef.h>

struct chv_csv {
    const char *name; /* for error texts */
    char *text;       /* the rest; changed while it is read */
    size_t line;      /* of the record read last, from 1 */
};

/*
 * Reads a whole file, at most `max` bytes of UTF-8 text, as a NUL-terminated buffer that is the caller's to free().
 * CHV_ERR_NOT_FOUND, CHV_ERR_IO; CHV_ERR_MALFORMED: too long, or there is a NUL in it.
 */
enum chv_err chv_csv_load(const char *file, size_t max, char **text, struct chv_why *why) CHV_MUST_CHECK;
/* Starts on a NUL-terminated buffer that is cut up and must outlive the fields.  A byte order mark is passed over. */
void chv_csv_begin(struct chv_csv *csv, const char *name, char *text);
/*
 * The next record's fields, each NUL-terminated and without white space around it; *count = 0 at the end.
 * CHV_ERR_MALFORMED with "NAME:LINE: ..." for a quote that does not end on its line or has text behind it, a control
 * character, more than `max` fields.
 */
enum chv_err chv_csv_next(struct chv_csv *csv, char **fields, size_t max, size_t *count,
                          struct chv_why *why) CHV_MUST_CHECK;

#endif
