/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "net/log.h"
#include "net/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <pwd.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static void handle_signals(void (*handler)(int))
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        (void)signal(signals[i], handler);
}

void chv_sandbox_ignore_signals(void)
{
    handle_signals(SIG_IGN);
}

int chv_sandbox_child(const char *name, int parent)
{
    handle_signals(SIG_DFL);
    (void)signal(SIGPIPE, SIG_IGN);
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)prctl(PR_SET_NAME, name);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    const struct rlimit no_core = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &no_core);
#ifndef CHV_SANITIZED /* the leak check at exit traces its own process */
    (void)prctl(PR_SET_DUMPABLE, 0);
#endif
    return getppid() == parent;
}

/* Needs CAP_SETPCAP, so before the user changes; who lacks that has no way to gain one of the set (no_new_privs). */
static void drop_bounding_set(void)
{
    for (unsigned long capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
        (void)prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
}

/* uid 0 keeps its capabilities, and a service manager may have handed down some: nothing here needs one. */
static enum chv_err drop_capabilities(struct chv_why *why)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return chv_fail(why, CHV_ERR_IO, "no_new_privs: %s", strerror(errno));
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (syscall(SYS_capset, &header, none) != 0)
        return chv_fail(why, CHV_ERR_IO, "cannot drop capabilities: %s", strerror(errno));
    return CHV_OK;
}

enum chv_err chv_sandbox_user(const char *user, struct chv_why *why)
{
    drop_bounding_set();
    if (user[0] == '\0' || geteuid() != 0)
        return drop_capabilities(why);
    errno = 0;
    const struct passwd *entry = getpwnam(user);
    if (entry == NULL)
        return chv_fail(why, CHV_ERR_CONFIG, "user '%s': %s", user, errno != 0 ? strerror(errno) : "unknown");
    uid_t uid = entry->pw_uid;
    gid_t gid = entry->pw_gid;
    if (initgroups(user, gid) != 0 || setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0)
        return chv_fail(why, CHV_ERR_IO, "cannot become user '%s': %s", user, strerror(errno));
    /* The kernel forgets these when the user changes. */
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
#ifndef CHV_SANITIZED
    (void)prctl(PR_SET_DUMPABLE, 0);
#endif
    return drop_capabilities(why);
}

void chv_sandbox_exit(bool module, int code)
{
#ifndef CHV_SANITIZED /* leaks are looked for at exit */
    if (module) {
        (void)fflush(NULL);
        _exit(code);
    }
#endif
    (void)module;
    exit(code);
}

/* Of this process; set before it has threads. */
static struct sandbox_folder {
    int fd;
    bool write;
} folders[CHV_SANDBOX_FOLDERS];
static size_t folder_count;

enum chv_err chv_sandbox_folder(int fd, bool write, struct chv_why *why)
{
    if (folder_count == CHV_SANDBOX_FOLDERS)
        return chv_fail(why, CHV_ERR_CONFIG, "more than %d folders are configured", CHV_SANDBOX_FOLDERS);
    folders[folder_count++] = (struct sandbox_folder){fd, write};
    return CHV_OK;
}

bool chv_sandbox_has_folders(void)
{
    return folder_count > 0;
}

#ifdef CHV_SANITIZED

enum chv_err chv_sandbox_folders(struct chv_why *why)
{
    (void)why;
    return CHV_OK;
}

enum chv_err chv_sandbox_enter(enum chv_sandbox kind, bool module, struct chv_why *why)
{
    (void)kind;
    (void)module;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return chv_fail(why, CHV_ERR_IO, "no_new_privs: %s", strerror(errno));
    return CHV_OK;
}

#else

/* Of a kernel that is newer than the headers only what these know is handled. */
enum chv_err chv_sandbox_folders(struct chv_why *why)
{
    const uint64_t read = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
    const uint64_t write = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
                           LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
                           LANDLOCK_ACCESS_FS_REFER;
    const uint64_t never = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_SOCK |
                           LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM;
    const long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (abi < 2) { /* REFER, without which nothing can be renamed from folder to folder, came with 2 */
        chv_log(CHV_LOG_WARNING, "the kernel has no Landlock: only the rights of its user keep the net process from "
                                 "other files than those of its configuration's folders");
        return CHV_OK;
    }
    const struct landlock_ruleset_attr attr = {.handled_access_fs = read | write | never};
    int rules = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
    bool made = rules >= 0;
    for (size_t i = 0; i < folder_count && made; i++) {
        const struct landlock_path_beneath_attr rule = {.allowed_access = read | (folders[i].write ? write : 0),
                                                        .parent_fd = folders[i].fd};
        made = syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0;
    }
    enum chv_err err = CHV_OK;
    if (!made || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || syscall(SYS_landlock_restrict_self, rules, 0) != 0)
        err = chv_fail(why, CHV_ERR_IO, "Landlock: %s", strerror(errno));
    if (rules >= 0)
        close(rules);
    return err;
}

#define CALL(name) SCMP_SYS(name)

/* Memory, threads that exist, time, random bytes, the log, the end. */
static const int common_calls[] = {
    CALL(brk),
    CALL(mmap),
    CALL(munmap),
    CALL(mremap),
    CALL(mprotect),
    CALL(madvise),
    CALL(mlock),
    CALL(munlock),
    CALL(futex),
    CALL(sched_yield),
    CALL(getrandom),
    CALL(gettid),
    CALL(getpid),
    CALL(getppid),
    CALL(clock_gettime),
    CALL(clock_nanosleep),
    CALL(gettimeofday),
    CALL(nanosleep),
    CALL(restart_syscall),
    CALL(rt_sigreturn),
    CALL(rt_sigprocmask),
    CALL(rt_sigaction),
    CALL(sigaltstack),
    CALL(tgkill),
    CALL(exit),
    CALL(exit_group),
    CALL(close),
    CALL(read),
    CALL(write),
    CALL(writev),
    CALL(recvmsg),
    CALL(recvfrom),
    CALL(poll),
    CALL(ppoll),
    CALL(fcntl),
    CALL(sched_getaffinity),
    CALL(membarrier),
    CALL(rseq),
    CALL(fstat),
    CALL(newfstatat),
};

static const int net_calls[] = {
    CALL(epoll_wait),      CALL(epoll_pwait), CALL(epoll_ctl),       CALL(accept4),     CALL(readv),
    CALL(getsockopt),      CALL(setsockopt),  CALL(shutdown),        CALL(getsockname), CALL(getpeername),
    CALL(timerfd_settime), CALL(ioctl),       CALL(set_robust_list),
};

/* Clients' files, by descriptors of folders only. */
static const int files_calls[] = {CALL(openat2),         CALL(mkdirat),       CALL(unlinkat),
                                  CALL(renameat),        CALL(renameat2),     CALL(fchmod),
                                  CALL(utimensat),       CALL(fsync),         CALL(sync_file_range),
                                  CALL(pread64),         CALL(fstatfs),       CALL(ftruncate),
                                  CALL(lseek),           CALL(flock),         CALL(getdents64),
                                  CALL(pwrite64),        CALL(inotify_init1), CALL(inotify_add_watch),
                                  CALL(inotify_rm_watch)};

/* The clock mark. */
static const int keeper_calls[] = {CALL(openat), CALL(renameat), CALL(renameat2), CALL(fdatasync), CALL(lseek)};

/* A database: files, their locks and a shared index, or a client's sockets to a server, which names may have to find. */
static const int registrar_calls[] = {
    CALL(openat),    CALL(statx),       CALL(faccessat),   CALL(faccessat2), CALL(readlinkat), CALL(getdents64),
    CALL(getcwd),    CALL(lseek),       CALL(pread64),     CALL(pwrite64),   CALL(readv),      CALL(ftruncate),
    CALL(fallocate), CALL(fsync),       CALL(fdatasync),   CALL(renameat),   CALL(renameat2),  CALL(unlinkat),
    CALL(fchmod),    CALL(flock),       CALL(fstatfs),     CALL(statfs),     CALL(msync),      CALL(geteuid),
    CALL(getuid),    CALL(getgid),      CALL(getegid),     CALL(uname),      CALL(sysinfo),    CALL(socket),
    CALL(connect),   CALL(getsockname), CALL(getpeername), CALL(getsockopt), CALL(setsockopt), CALL(shutdown),
    CALL(sendmmsg),
#ifdef __x86_64__ /* what newer architectures have not */
    CALL(open),      CALL(stat),        CALL(lstat),       CALL(access),     CALL(readlink),   CALL(rename),
    CALL(unlink),    CALL(time),
#endif
};

/* Sockets to connect with, its loop, and what resolves names: its files are read only (allow_reading). */
static const int connector_calls[] = {
    CALL(epoll_wait),   CALL(epoll_pwait), CALL(epoll_ctl),  CALL(socket),      CALL(connect),   CALL(bind),
    CALL(getsockname),  CALL(getsockopt),  CALL(setsockopt), CALL(getpeername), CALL(sendmmsg),  CALL(shutdown),
    CALL(ioctl),        CALL(lseek),       CALL(pread64),    CALL(statx),       CALL(faccessat), CALL(faccessat2),
    CALL(readlinkat),   CALL(getdents64),  CALL(fstatfs),    CALL(statfs),      CALL(uname),     CALL(getuid),
    CALL(geteuid),      CALL(getgid),      CALL(getegid),    CALL(sysinfo),     CALL(getcwd),    CALL(set_robust_list),
    CALL(clock_getres),
#ifdef __x86_64__ /* what newer architectures have not */
    CALL(stat),         CALL(lstat),       CALL(access),     CALL(readlink),    CALL(time),
#endif
};

/* A PKCS #11 module: files and their locks, a socket to its token, threads. */
static const int module_calls[] = {
    CALL(openat),
    CALL(statx),
    CALL(faccessat),
    CALL(faccessat2),
    CALL(readlinkat),
    CALL(getdents64),
    CALL(getcwd),
    CALL(lseek),
    CALL(pread64),
    CALL(pwrite64),
    CALL(readv),
    CALL(ftruncate),
    CALL(fsync),
    CALL(fdatasync),
    CALL(renameat),
    CALL(renameat2),
    CALL(unlinkat),
    CALL(mkdirat),
    CALL(fchmod),
    CALL(fchmodat),
    CALL(umask),
    CALL(flock),
    CALL(fstatfs),
    CALL(statfs),
    CALL(dup),
    CALL(dup3),
    CALL(pipe2),
    CALL(socket),
    CALL(socketpair),
    CALL(connect),
    CALL(getsockname),
    CALL(getpeername),
    CALL(getsockopt),
    CALL(setsockopt),
    CALL(shutdown),
    CALL(pselect6),
    CALL(epoll_create1),
    CALL(epoll_ctl),
    CALL(epoll_pwait),
    CALL(eventfd2),
    CALL(timerfd_create),
    CALL(timerfd_settime),
    CALL(set_robust_list),
    CALL(uname),
    CALL(sysinfo),
    CALL(getuid),
    CALL(geteuid),
    CALL(getgid),
    CALL(getegid),
    CALL(getrusage),
    CALL(prlimit64),
    CALL(clock_getres),
    CALL(sched_getparam),
    CALL(sched_getscheduler),
    CALL(msync),
#ifdef __x86_64__ /* what newer architectures have not */
    CALL(open),
    CALL(stat),
    CALL(lstat),
    CALL(access),
    CALL(readlink),
    CALL(rename),
    CALL(unlink),
    CALL(mkdir),
    CALL(chmod),
    CALL(dup2),
    CALL(pipe),
    CALL(select),
    CALL(epoll_create),
    CALL(epoll_wait),
    CALL(getrlimit),
    CALL(time),
    CALL(arch_prctl),
#endif
};

/* Threads, but no processes; terminals are not typed into (ioctl_tty(2)); a thread names itself. */
static int allow_module(scmp_filter_ctx filter)
{
    int err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(clone), 1,
                               SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
    if (err == 0) /* its flags are in memory, out of sight: the C library goes back to clone */
        err = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), CALL(clone3), 0);
    if (err == 0)
        err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(ioctl), 1, SCMP_A1(SCMP_CMP_NE, TIOCSTI));
    if (err == 0)
        err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(prctl), 1, SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME));
    return err;
}

/* openat(2) that makes and changes nothing. */
static int allow_reading(scmp_filter_ctx filter)
{
    return seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(openat), 1,
                            SCMP_A2(SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY));
}

/*
 * The net process connects to nobody: it has no socket(2) and no connect(2), and sends to no address, for MSG_FASTOPEN
 * connects, too, if only a listening socket that was shut down (tcp(7)).
 */
static int allow_sending(scmp_filter_ctx filter)
{
    int err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(sendto), 2, SCMP_A3(SCMP_CMP_MASKED_EQ, MSG_FASTOPEN, 0),
                               SCMP_A4(SCMP_CMP_EQ, 0));
    if (err == 0)
        err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(sendmsg), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, MSG_FASTOPEN, 0));
    return err;
}

static int allow(scmp_filter_ctx filter, const int *calls, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
        if (err != 0)
            return err;
    }
    return 0;
}

enum chv_err chv_sandbox_enter(enum chv_sandbox kind, bool module, struct chv_why *why)
{
    static const int sending_calls[] = {CALL(sendto), CALL(sendmsg)};
    const bool net = kind == CHV_SANDBOX_NET || kind == CHV_SANDBOX_NET_FILES;
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (filter == NULL)
        return chv_fail(why, CHV_ERR_MEMORY, "seccomp: out of memory");
    int err = allow(filter, common_calls, sizeof common_calls / sizeof common_calls[0]);
    if (err == 0)
        err = net && !module ? allow_sending(filter)
                             : allow(filter, sending_calls, sizeof sending_calls / sizeof sending_calls[0]);
    if (err == 0 && net)
        err = allow(filter, net_calls, sizeof net_calls / sizeof net_calls[0]);
    if (err == 0 && kind == CHV_SANDBOX_NET_FILES)
        err = allow(filter, files_calls, sizeof files_calls / sizeof files_calls[0]);
    if (err == 0 && kind == CHV_SANDBOX_KEEPER)
        err = allow(filter, keeper_calls, sizeof keeper_calls / sizeof keeper_calls[0]);
    if (err == 0 && kind == CHV_SANDBOX_REGISTRAR)
        err = allow(filter, registrar_calls, sizeof registrar_calls / sizeof registrar_calls[0]);
    if (err == 0 && kind == CHV_SANDBOX_CONNECTOR)
        err = allow(filter, connector_calls, sizeof connector_calls / sizeof connector_calls[0]);
    if (err == 0 && kind == CHV_SANDBOX_CONNECTOR)
        err = allow_reading(filter);
    if (err == 0 && module)
        err = allow(filter, module_calls, sizeof module_calls / sizeof module_calls[0]);
    if (err == 0 && module)
        err = allow_module(filter);
    if (err == 0)
        err = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    if (err == 0)
        err = seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 1);
    if (err == 0)
        err = seccomp_load(filter);
    seccomp_release(filter);
    if (err != 0)
        return chv_fail(why, CHV_ERR_IO, "seccomp filter: %s", strerror(-err));
    return CHV_OK;
}

#endif
