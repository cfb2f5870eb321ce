/* SPDX-License-Identifier: Apache-2.0 */
/* A CUnit program in one table: TEST_MAIN("suite", {"name", function}, ...). */
#ifndef CHV_TESTS_HARNESS_H
#define CHV_TESTS_HARNESS_H

#include <CUnit/Basic.h>

#include <stddef.h>
#include <stdlib.h>

#ifdef __clang_analyzer__ /* it cannot see that a fatal assertion does not return */
#undef CU_ASSERT_FATAL
#undef CU_ASSERT_EQUAL_FATAL
#undef CU_ASSERT_NOT_EQUAL_FATAL
#undef CU_ASSERT_PTR_NOT_NULL_FATAL
#undef CU_FAIL_FATAL
#define CU_ASSERT_FATAL(value) ((value) ? (void)0 : abort())
#define CU_ASSERT_EQUAL_FATAL(actual, expected) CU_ASSERT_FATAL((actual) == (expected))
#define CU_ASSERT_NOT_EQUAL_FATAL(actual, expected) CU_ASSERT_FATAL((actual) != (expected))
#define CU_ASSERT_PTR_NOT_NULL_FATAL(value) CU_ASSERT_FATAL((value) != NULL)
#define CU_FAIL_FATAL(text) abort()
#endif

struct test_case {
    const char *name;
    CU_TestFunc run;
};

static inline int test_main(const char *suite_name, const struct test_case *cases, size_t n)
{
    if (CU_initialize_registry() != CUE_SUCCESS)
        return EXIT_FAILURE;
    CU_pSuite suite = CU_add_suite(suite_name, NULL, NULL);
    for (size_t i = 0; suite != NULL && i < n; i++)
        if (CU_add_test(suite, cases[i].name, cases[i].run) == NULL)
            suite = NULL;
    if (suite == NULL) {
        CU_cleanup_registry();
        return EXIT_FAILURE;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_ErrorCode ran = CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures() + CU_get_number_of_suites_failed();
    CU_cleanup_registry();
    return ran == CUE_SUCCESS && failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#define TEST_MAIN(suite, ...)                                                                                          \
    int main(void)                                                                                                     \
    {                                                                                                                  \
        static const struct test_case test_cases[] = {__VA_ARGS__};                                                    \
        return test_main(suite, test_cases, sizeof test_cases / sizeof test_cases[0]);                                 \
    }

#endif
