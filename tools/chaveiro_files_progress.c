/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/chaveiro_files.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "net/text.h"

enum { DRAW_MS = 100, BAR = 24, LINE_SIZE = 200, NAME_WIDTH = 24 };

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

void chaveiro_progress_text(const struct chaveiro_progress *p, uint64_t ns, char *out, size_t out_size)
{
    char amount[24], rate[24], left[24] = "--:--", count[48] = "", bar[BAR + 1];
    const double share = p->size == 0 || p->done >= p->size ? 1 : (double)p->done / (double)p->size;
    const double speed = ns == 0 ? 0 : (double)p->moved * (double)second / (double)ns;
    const size_t filled = (size_t)(share * BAR);
    memset(bar, '#', filled);
    memset(bar + filled, '.', BAR - filled);
    bar[BAR] = '\0';
    size_text(p->done, amount, sizeof amount);
    size_text((uint64_t)speed, rate, sizeof rate);
    if (p->files > 1)
        (void)snprintf(count, sizeof count, "%" PRIu64 "/%" PRIu64 "  ", p->files_done, p->files);
    if (speed > 0) {
        const uint64_t seconds = p->done >= p->size ? 0 : (uint64_t)((double)(p->size - p->done) / speed + 0.5);
        if (seconds < 100 * 3600)
            (void)snprintf(left, sizeof left, "%" PRIu64 ":%02" PRIu64 ":%02" PRIu64, seconds / 3600, seconds / 60 % 60,
                           seconds % 60);
    }
    (void)snprintf(out, out_size, "%s[%s] %3.0f%%  %s  %s/s  ETA %s", count, bar, share * 100, amount, rate, left);
}

/* As much of it as fits; not cut in the middle of a character. */
static void set_name(struct chaveiro_progress *p, const char *name)
{
    const size_t len = strlen(name);
    size_t used = len < NAME_WIDTH ? len : NAME_WIDTH;
    while (used < len && used > 0 && ((unsigned char)name[used] & 0xc0) == 0x80)
        used--;
    memcpy(p->name, name, used);
    p->name[used] = '\0';
}

void chaveiro_progress_begin(struct chaveiro_progress *p, const struct chv_cli_args *args, const char *name,
                             uint64_t size)
{
    *p = (struct chaveiro_progress){.shown = isatty(STDERR_FILENO) == 1 && !chv_cli_given(args, "json"), .size = size};
    set_name(p, name);
}

void chaveiro_progress_expect(struct chaveiro_progress *p, uint64_t count, uint64_t bytes)
{
    p->files += count;
    p->size += bytes;
}

void chaveiro_progress_file(struct chaveiro_progress *p, const char *name)
{
    set_name(p, name);
    p->files_done++;
}

void chaveiro_progress_add(struct chaveiro_progress *p, uint64_t moved, uint64_t skipped)
{
    char line[LINE_SIZE], name[4 * NAME_WIDTH + 1];
    const uint64_t now = p->shown ? uv_hrtime() : 0;
    p->moved += moved;
    p->done += moved + skipped;
    if (p->started == 0)
        p->started = now;
    if (!p->shown || (p->drawn != 0 && now - p->drawn < (uint64_t)DRAW_MS * (second / 1000)))
        return;
    p->drawn = now;
    chaveiro_progress_text(p, now - p->started, line, sizeof line);
    (void)fputc('\r', stderr);
    (void)chv_text_escape(p->name, strlen(p->name), name, sizeof name, NULL);
    (void)fprintf(stderr, "%s  %s\033[K", name, line);
    (void)fflush(stderr);
}

void chaveiro_progress_to(struct chaveiro_progress *p, uint64_t done)
{
    chaveiro_progress_add(p, done - p->done, 0);
}

void chaveiro_progress_clear(struct chaveiro_progress *p)
{
    if (p->shown && p->drawn != 0) {
        (void)fputs("\r\033[K", stderr);
        (void)fflush(stderr);
        p->drawn = 0;
    }
}

void chaveiro_progress_end(struct chaveiro_progress *p)
{
    chaveiro_progress_clear(p);
    p->shown = false;
}
