/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CHV_NET_CLOCK_H
#define CHV_NET_CLOCK_H

#include <stdint.h>

/* Monotonic, in ms. */
uint64_t chv_clock_ms(void);
/* Unix seconds; 0 before 1970. */
uint64_t chv_clock_time(void);

#endif
