/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LD_PRELOAD: a program that is killed before its Nth call that changes something outside of it.  N is CHV_TEST_KILL_AT;
 * a negative one means after that call.  With CHV_TEST_KILL_MORE calls count too that write to one descriptor or change a
 * file's attributes.
 *
 * Or, with CHV_TEST_KILL_ARMED in its environment, a process that serves: it, or a process that it has forked, counts
 * from when it gets CHV_KILL_SIGNAL by sigqueue(3), whose value is N; and then also what it writes to pipes and sockets.
 */
#include "config.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define SHOWN __attribute__((visibility("default")))

#define CHV_KILL_SIGNAL (SIGRTMIN + 3)

static long kill_at, calls;
static bool more;

static void on_signal(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)context;
    calls = 0;
    kill_at = info->si_value.sival_int;
    more = true;
}

__attribute__((constructor)) static void kill_start(void)
{
    const char *n = getenv("CHV_TEST_KILL_AT");
    const struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
    kill_at = n != NULL ? strtol(n, NULL, 10) : 0;
    more = getenv("CHV_TEST_KILL_MORE") != NULL;
    if (getenv("CHV_TEST_KILL_ARMED") != NULL)
        (void)sigaction(CHV_KILL_SIGNAL, &action, NULL);
}

static void *real(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (found == NULL)
        abort();
    return found;
}

/* raise(3): a sandboxed process may send itself a signal, and nobody else */
static long before(void)
{
    const long call = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    if (call == kill_at)
        (void)raise(SIGKILL);
    return call;
}

static void after(long call)
{
    if (call != 0 && call == -kill_at)
        (void)raise(SIGKILL);
}

/* `type` is a return type and cannot stand in parentheses */
/* NOLINTBEGIN(bugprone-macro-parentheses) */
#define WRAPPED_IF(counts, type, name, parameters, arguments)                                                          \
    SHOWN type name parameters                                                                                         \
    {                                                                                                                  \
        union {                                                                                                        \
            void *object;                                                                                              \
            type(*function) parameters;                                                                                \
        } to = {real(#name)};                                                                                          \
        const long call = (counts) ? before() : 0;                                                                     \
        type result = to.function arguments;                                                                           \
        after(call);                                                                                                   \
        return result;                                                                                                 \
    }
/* NOLINTEND(bugprone-macro-parentheses) */
#define WRAPPED(type, name, parameters, arguments) WRAPPED_IF(true, type, name, parameters, arguments)

WRAPPED(ssize_t, pwrite64, (int __fd, const void *__buf, size_t __n, off64_t __offset), (__fd, __buf, __n, __offset))
WRAPPED(int, fsync, (int __fd), (__fd))
WRAPPED(int, fdatasync, (int __fildes), (__fildes))
WRAPPED(int, rename, (const char *__old, const char *__new), (__old, __new))
WRAPPED(int, renameat, (int __oldfd, const char *__old, int __newfd, const char *__new),
        (__oldfd, __old, __newfd, __new))
WRAPPED(int, link, (const char *__from, const char *__to), (__from, __to))
WRAPPED(int, linkat, (int __fromfd, const char *__from, int __tofd, const char *__to, int __flags),
        (__fromfd, __from, __tofd, __to, __flags))
WRAPPED(int, unlink, (const char *__name), (__name))
WRAPPED(int, unlinkat, (int __fd, const char *__name, int __flag), (__fd, __name, __flag))
WRAPPED(int, ftruncate64, (int __fd, off64_t __length), (__fd, __length))
WRAPPED(ssize_t, send, (int __fd, const void *__buf, size_t __n, int __flags), (__fd, __buf, __n, __flags))
WRAPPED_IF(more, ssize_t, write, (int __fd, const void *__buf, size_t __n), (__fd, __buf, __n))
WRAPPED_IF(more, ssize_t, writev, (int __fd, const struct iovec *__iovec, int __count), (__fd, __iovec, __count))
WRAPPED_IF(more, ssize_t, sendmsg, (int __fd, const struct msghdr *__message, int __flags), (__fd, __message, __flags))
WRAPPED_IF(more, int, mkdirat, (int __fd, const char *__path, mode_t __mode), (__fd, __path, __mode))
WRAPPED_IF(more, int, fchmod, (int __fd, mode_t __mode), (__fd, __mode))
WRAPPED_IF(more, int, futimens, (int __fd, const struct timespec __times[2]), (__fd, __times))
WRAPPED_IF(more, int, renameat2, (int __oldfd, const char *__old, int __newfd, const char *__new, unsigned int __flags),
           (__oldfd, __old, __newfd, __new, __flags))
