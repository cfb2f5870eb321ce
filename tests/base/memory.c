/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/harness.h"

#include "base/memory.h"

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* AddressSanitizer turns mlock into nothing. */
#ifdef __SANITIZE_ADDRESS__
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static void test_wipe(void)
{
    uint8_t buf[40];
    memset(buf, 0xa5, sizeof buf);
    chv_wipe(buf + 1, 38);
    CU_ASSERT_TRUE(chv_is_zero(buf + 1, 38));
    CU_ASSERT_EQUAL(buf[0], 0xa5);
    CU_ASSERT_EQUAL(buf[39], 0xa5);
    chv_wipe(NULL, 0);
}

static void test_compare(void)
{
    uint8_t a[33] = {0};
    uint8_t b[33] = {0};
    CU_ASSERT_TRUE(chv_equal(a, b, sizeof a));
    CU_ASSERT_TRUE(chv_is_zero(a, sizeof a));
    for (size_t bit = 0; bit < 8 * sizeof a; bit++) {
        a[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CU_ASSERT_FALSE(chv_equal(a, b, sizeof a));
        CU_ASSERT_FALSE(chv_equal(b, a, sizeof a));
        CU_ASSERT_FALSE(chv_is_zero(a, sizeof a));
        a[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    a[32] = 1;
    CU_ASSERT_TRUE(chv_equal(a, b, 32));
    CU_ASSERT_TRUE(chv_equal(NULL, NULL, 0));
    CU_ASSERT_TRUE(chv_is_zero(NULL, 0));
    CU_ASSERT_EQUAL(chv_equal(a, a, sizeof a), 1);
}

/* The flags line ("VmFlags: rd wr ...") of the mapping that holds ptr. */
static bool vm_flags(const void *ptr, char *flags, size_t size)
{
    FILE *f = fopen("/proc/self/smaps", "re");
    char line[512];
    bool inside = false;
    bool found = false;
    if (f == NULL)
        return false;
    while (!found && fgets(line, sizeof line, f) != NULL) {
        char *end = NULL;
        unsigned long long from = strtoull(line, &end, 16);
        if (end != line && *end == '-') /* "from-to ..." begins a mapping */
            inside = (uintptr_t)ptr >= from && (uintptr_t)ptr < strtoull(end + 1, NULL, 16);
        else if (inside && strncmp(line, "VmFlags:", 8) == 0)
            found = snprintf(flags, size, "%s", line) > 0;
    }
    fclose(f);
    return found;
}

static void test_secure(void)
{
    static const size_t lens[] = {0, 1, 16, 32, 33, 4095, 4096, 4097, 70000};
    for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        char flags[512];
        uint8_t *p = chv_secure_alloc(lens[i]);
        CU_ASSERT_PTR_NOT_NULL_FATAL(p);
        if (p == NULL)
            return;
        CU_ASSERT_EQUAL((uintptr_t)p % _Alignof(max_align_t), 0);
        CU_ASSERT_TRUE(chv_is_zero(p, lens[i]));
        memset(p, 0x5a, lens[i]);
        /* kept out of core dumps */
        if (vm_flags(p, flags, sizeof flags))
            CU_ASSERT_PTR_NOT_NULL(strstr(flags, " dd"));
        chv_secure_free(p, lens[i]);
    }
    chv_secure_free(NULL, 32);
    CU_ASSERT_PTR_NULL(chv_secure_alloc(SIZE_MAX));
    CU_ASSERT_PTR_NULL(chv_secure_alloc(SIZE_MAX / 2));
}

static void test_locked(void)
{
    struct rlimit limit;
    char flags[512];
    void *p = chv_secure_alloc(32);
    CU_ASSERT_PTR_NOT_NULL_FATAL(p);
    CU_ASSERT_EQUAL(getrlimit(RLIMIT_MEMLOCK, &limit), 0);
    if (!SANITIZED && limit.rlim_cur >= 65536 && vm_flags(p, flags, sizeof flags))
        CU_ASSERT_PTR_NOT_NULL(strstr(flags, " lo"));
    chv_secure_free(p, 32);
}

enum touch { INSIDE, BEFORE, AFTER, FREED };

/* In a child, since it may die: the signal that ended it, 0 if none did. */
static int signal_of(enum touch touch)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        /* A sanitizer would report the fault instead of dying of it. */
        signal(SIGSEGV, SIG_DFL);
        void *memory = chv_secure_alloc(4096);
        volatile uint8_t *p = memory;
        if (p == NULL)
            _exit(1);
        if (touch == FREED)
            chv_secure_free(memory, 4096);
        if (touch == BEFORE)
            p[-1] = 1;
        else if (touch == AFTER)
            p[4096] = 1;
        else
            p[4095] = 1;
        _exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return -1;
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void test_guards(void)
{
    CU_ASSERT_EQUAL(signal_of(INSIDE), 0);
    CU_ASSERT_EQUAL(signal_of(BEFORE), SIGSEGV);
    CU_ASSERT_EQUAL(signal_of(AFTER), SIGSEGV);
    CU_ASSERT_EQUAL(signal_of(FREED), SIGSEGV);
}

TEST_MAIN("memory", {"wipe", test_wipe}, {"compare", test_compare}, {"secure", test_secure}, {"locked", test_locked},
          {"guard pages", test_guards})
