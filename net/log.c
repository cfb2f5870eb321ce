/* SPDX-License-Identifier: Apache-2.0 */
#include "net/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "net/text.h"

enum { TEXT_MAX = 1024, LINE_MAX_BYTES = 4096 }; /* a line is at most PIPE_BUF: lines of several processes never mix */

static const char *const level_names[] = {
    [CHV_LOG_ERROR] = "error",
    [CHV_LOG_WARNING] = "warning",
    [CHV_LOG_INFO] = "info",
    [CHV_LOG_DEBUG] = "debug",
};
enum { LEVELS = sizeof level_names / sizeof level_names[0] };

static const char *log_process = "chaveiro";
static enum chv_log_target log_target = CHV_LOG_STDERR;
static atomic_int log_level = CHV_LOG_INFO;

void chv_log_open(const char *process, enum chv_log_target target, enum chv_log_level level)
{
    if (log_target == CHV_LOG_SYSLOG)
        closelog();
    log_process = process;
    log_target = target;
    chv_log_set_level(level);
    if (target == CHV_LOG_SYSLOG)
        openlog("chaveirod", LOG_PID | LOG_NDELAY, LOG_DAEMON);
}

void chv_log_set_level(enum chv_log_level level)
{
    atomic_store(&log_level, (int)level);
}

enum chv_err chv_log_level_find(const char *name, enum chv_log_level *level)
{
    for (int i = 0; i < LEVELS; i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *level = (enum chv_log_level)i;
            return CHV_OK;
        }
    }
    return CHV_ERR_NOT_FOUND;
}

bool chv_log_writes(enum chv_log_level level)
{
    return (int)level <= atomic_load_explicit(&log_level, memory_order_relaxed);
}

static void to_stderr(enum chv_log_level level, const char *text)
{
    char line[LINE_MAX_BYTES], when[32] = "";
    time_t now = time(NULL);
    struct tm tm;
    if (gmtime_r(&now, &tm) != NULL)
        (void)strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
    int n = snprintf(line, sizeof line - 1, "%s %s %s[%ld]: %s", when, level_names[level], log_process, (long)getpid(),
                     text);
    if (n < 0)
        return;
    size_t len = (size_t)n < sizeof line - 1 ? (size_t)n : sizeof line - 2;
    line[len] = '\n';
    ssize_t written = write(STDERR_FILENO, line, len + 1);
    (void)written; /* there is nowhere to tell */
}

void chv_log(enum chv_log_level level, const char *format, ...)
{
    static const int priorities[] = {
        [CHV_LOG_ERROR] = LOG_ERR,
        [CHV_LOG_WARNING] = LOG_WARNING,
        [CHV_LOG_INFO] = LOG_INFO,
        [CHV_LOG_DEBUG] = LOG_DEBUG,
    };
    if (!chv_log_writes(level))
        return;
    char raw[TEXT_MAX], text[TEXT_MAX * 3];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(raw, sizeof raw, format, args);
    va_end(args);
    if (n < 0)
        return;
    (void)chv_text_escape(raw, strlen(raw), text, sizeof text, NULL);
    if (log_target == CHV_LOG_SYSLOG)
        syslog(priorities[level], "%s: %s", log_process, text);
    else
        to_stderr(level, text);
}
