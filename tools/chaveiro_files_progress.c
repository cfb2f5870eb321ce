/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/chaveiro_files.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

enum { DRAW_MS = 100, BAR = 24, LINE_SIZE = 160, NAME_WIDTH = 24 };

static const uint64_t second = 1000000000;

/* "1.5 GiB" */
static void size_text(uint64_t bytes, char *out, size_t out_size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t i = 0;
    for (; value >= 1024 && i + 1 < sizeof units / sizeof units[0]; i++)
        value /= 1024;
    (void)snprintf(out, out_size, i == 0 ? "%.0f %s" : "%.1f %s", value, units[i]);
}

void chaveiro_progress_text(uint64_t done, uint64_t size, uint64_t ns, char *out, size_t out_size)
{
    char amount[24], rate[24], left[24] = "--:--", bar[BAR + 1];
    const double share = size == 0 ? 1 : done >= size ? 1 : (double)done / (double)size;
    const double speed = ns == 0 ? 0 : (double)done * (double)second / (double)ns;
    const size_t filled = (size_t)(share * BAR);
    memset(bar, '#', filled);
    memset(bar + filled, '.', BAR - filled);
    bar[BAR] = '\0';
    size_text(done, amount, sizeof amount);
    size_text((uint64_t)speed, rate, sizeof rate);
    if (speed > 0) {
        uint64_t seconds = done >= size ? 0 : (uint64_t)((double)(size - done) / speed + 0.5);
        if (seconds < 100 * 3600)
            (void)snprintf(left, sizeof left, "%" PRIu64 ":%02" PRIu64 ":%02" PRIu64, seconds / 3600, seconds / 60 % 60,
                           seconds % 60);
    }
    (void)snprintf(out, out_size, "[%s] %3.0f%%  %s  %s/s  ETA %s", bar, share * 100, amount, rate, left);
}

void chaveiro_progress_begin(struct chaveiro_progress *p, const struct chv_cli_args *args, const char *name,
                             uint64_t size)
{
    *p = (struct chaveiro_progress){.shown = isatty(STDERR_FILENO) == 1 && !chv_cli_given(args, "json"),
                                    .name = name,
                                    .size = size,
                                    .started = uv_hrtime()};
}

void chaveiro_progress_to(struct chaveiro_progress *p, uint64_t done)
{
    char line[LINE_SIZE];
    const uint64_t now = uv_hrtime();
    if (!p->shown || (p->drawn != 0 && now - p->drawn < (uint64_t)DRAW_MS * (second / 1000)))
        return;
    p->drawn = now;
    chaveiro_progress_text(done, p->size, now - p->started, line, sizeof line);
    const size_t len = strlen(p->name);
    (void)fputc('\r', stderr);
    chv_cli_put_escaped(stderr, p->name, len < NAME_WIDTH ? len : NAME_WIDTH, false);
    (void)fprintf(stderr, "  %s\033[K", line);
    (void)fflush(stderr);
}

void chaveiro_progress_end(struct chaveiro_progress *p)
{
    if (p->shown && p->drawn != 0) {
        (void)fputs("\r\033[K", stderr);
        (void)fflush(stderr);
    }
    p->shown = false;
}
