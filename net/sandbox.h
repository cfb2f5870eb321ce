/* SPDX-License-Identifier: Apache-2.0 */
/* Giving up rights that a process needs no longer. */
#ifndef CHV_NET_SANDBOX_H
#define CHV_NET_SANDBOX_H

#include <chaveiro/error.h>

#include <stdbool.h>

enum chv_sandbox {
    CHV_SANDBOX_NET,
    CHV_SANDBOX_NET_FILES,
    CHV_SANDBOX_KEEPER,
    CHV_SANDBOX_REGISTRAR,
    CHV_SANDBOX_CONNECTOR
};

/*
 * For a child right after the fork: dies with its parent `parent` (a pid), takes signals as by default but SIGPIPE, is
 * seen as `name` in process lists (15 characters), leaves no core dump and cannot be traced. Returns 0 if the parent is
 * gone already.
 */
int chv_sandbox_child(const char *name, int parent);

/* Ignores the signals that are the supervisor's to handle: a ^C reaches every process of the terminal. */
void chv_sandbox_ignore_signals(void);

/*
 * Becomes `user` for good, if that is not "" and the process runs as root; then dies with its parent all the same. Gives
 * up all capabilities in any case, also as root, and can gain none. For the calling thread and those that it will start.
 */
enum chv_err chv_sandbox_user(const char *user, struct chv_why *why) CHV_MUST_CHECK;

/*
 * No new privileges, and a seccomp filter on all threads: system calls that are not on the list fail with EPERM. (In a
 * build with a sanitizer, whose runtime needs more, there is no filter.)
 *
 * `module`: a PKCS #11 module works in this process. It opens and locks its files at every use, may have threads and a
 * socket to its token, and is loaded anew when the token was lost: what a client of files and sockets needs is on the
 * list too; other programs, other processes, other users, listening are not.
 */
enum chv_err chv_sandbox_enter(enum chv_sandbox kind, bool module, struct chv_why *why) CHV_MUST_CHECK;

/*
 * Which folders the process needs (landlock(7)): beneath `fd`, which stays open, files may be read, and with `write`
 * written, made, renamed and removed. Before chv_sandbox_folders; at most CHV_SANDBOX_FOLDERS.
 */
enum { CHV_SANDBOX_FOLDERS = 128 };
enum chv_err chv_sandbox_folder(int fd, bool write, struct chv_why *why) CHV_MUST_CHECK;
/* Whether any was named. */
bool chv_sandbox_has_folders(void);
/*
 * From now on the calling thread, and those that it will start, reach files and folders beneath these only, and run
 * none. Where the kernel has no Landlock a warning is logged, and CHV_OK is returned. (Not in a build with a sanitizer.)
 */
enum chv_err chv_sandbox_folders(struct chv_why *why) CHV_MUST_CHECK;

/* exit(3), or at once where a `module` was in use: it and what it brought may trip over each other's last words. */
void chv_sandbox_exit(bool module, int code) __attribute__((noreturn));

#endif
