/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines: "TIME LEVEL PROCESS[PID]: text", one write each, to stderr or syslog. Any thread. */
#ifndef CHV_NET_LOG_H
#define CHV_NET_LOG_H

#include <chaveiro/error.h>

#include <stdbool.h>

enum chv_log_level { CHV_LOG_ERROR, CHV_LOG_WARNING, CHV_LOG_INFO, CHV_LOG_DEBUG };
enum chv_log_target { CHV_LOG_STDERR, CHV_LOG_SYSLOG };

/* `process`: "supervisor", "net", "keeper"; static storage. */
void chv_log_open(const char *process, enum chv_log_target target, enum chv_log_level level);
void chv_log_set_level(enum chv_log_level level);
/* CHV_ERR_NOT_FOUND for an unknown name ("error", "warning", "info", "debug"). */
enum chv_err chv_log_level_find(const char *name, enum chv_log_level *level) CHV_MUST_CHECK;

/* Whether a line of that level would be written. */
bool chv_log_writes(enum chv_log_level level);
/* Control characters in the text come out as \xHH: a peer cannot forge a line. */
void chv_log(enum chv_log_level level, const char *format, ...) CHV_PRINTF(2, 3);

#endif
