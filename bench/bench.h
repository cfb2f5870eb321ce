/* SPDX-License-Identifier: Apache-2.0 */
/* What the measuring programs share: CPU time, medians. */
#ifndef CHV_BENCH_BENCH_H
#define CHV_BENCH_BENCH_H

#include <stddef.h>
#include <stdlib.h>
#include <time.h>

/* CPU time of this thread in seconds: what other programs take does not count. */
static inline double bench_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static inline int bench_compare(const void *a, const void *b)
{
    const double *x = a;
    const double *y = b;
    return (*x > *y) - (*x < *y);
}

/* Sorts `values`. */
static inline double bench_median(double *values, size_t n)
{
    qsort(values, n, sizeof *values, bench_compare);
    return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

#endif
