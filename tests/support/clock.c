/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LD_PRELOAD: a wall clock that tests set.  The seconds in the file CHV_TEST_CLOCK (int64_t of this machine) are added to
 * the time of day, also after they were changed there: the file is mapped when the program starts, which a sandbox that
 * comes later does not undo.
 */
#include "config.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

typedef int clock_fn(clockid_t, struct timespec *);

static clock_fn *real;
static const volatile int64_t *offset;

__attribute__((constructor)) static void clock_start(void)
{
    const char *path = getenv("CHV_TEST_CLOCK");
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *map = fd >= 0 ? mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    real = (clock_fn *)dlsym(RTLD_NEXT, "clock_gettime");
    if (map == MAP_FAILED || real == NULL)
        abort();
    offset = map;
    close(fd);
}

/* As time.h calls them. */
__attribute__((visibility("default"))) int clock_gettime(clockid_t __clock_id, struct timespec *__tp)
{
    int rc = real(__clock_id, __tp);
    if (rc == 0 && __clock_id == CLOCK_REALTIME)
        __tp->tv_sec += *offset;
    return rc;
}

__attribute__((visibility("default"))) time_t time(time_t *__timer)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    if (__timer != NULL)
        *__timer = t.tv_sec;
    return t.tv_sec;
}
