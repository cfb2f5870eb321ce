/* SPDX-License-Identifier: Apache-2.0 */
/* The test's side of pkcs11_fault.so. */
#include "tests/support/pkcs11_fault.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONG_PATH = 240 };

const char *test_fault_module(const char *real, struct chv_fault **fault)
{
    static char path[1024];
    const char *top = getenv("top_builddir");
    (void)snprintf(path, sizeof path, "%s/tests/support/.libs/pkcs11_fault.so", top != NULL ? top : ".");
    char *whole = realpath(path, NULL);
    void *library = whole != NULL ? dlopen(whole, RTLD_NOW | RTLD_LOCAL) : NULL;
    if (library == NULL || (*fault = dlsym(library, "chv_fault")) == NULL) {
        (void)fprintf(stderr, "%s: %s\n", path, whole == NULL ? "is not there: set top_builddir" : dlerror());
        exit(EXIT_FAILURE);
    }
    /* a long path wherever the tests are built: no error is cut by it */
    size_t len = 0;
    for (size_t n = strlen(whole); n + len < LONG_PATH; len += 2)
        memcpy(path + len, "/.", 2);
    (void)snprintf(path + len, sizeof path - len, "%s", whole);
    free(whole);
    (void)setenv("CHV_FAULT_MODULE", real, 1);
    return path;
}

void test_fault_arm_call(struct chv_fault *fault, unsigned long n, CK_RV rv)
{
    fault->only = NULL;
    fault->mode = CHV_FAULT_BEFORE;
    fault->rv = rv;
    fault->times = 1;
    fault->calls = 0;
    fault->fired = 0;
    fault->first = n;
}

void test_fault_disarm(struct chv_fault *fault)
{
    fault->first = 0;
    fault->only = NULL;
    fault->with = 0;
    fault->attribute = 0;
    fault->grant = 0;
    fault->wrap_only = 0;
}
