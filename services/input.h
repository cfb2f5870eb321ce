/* SPDX-License-Identifier: Apache-2.0 */
/* Input of a program on its event loop: a pipe, a socket, a terminal or a file alike; the descriptor's flags stay as
 * they were. */
#ifndef CHV_SERVICES_INPUT_H
#define CHV_SERVICES_INPUT_H

#include "net/loop.h"

struct chv_input;

/* One read(2) of `fd` will not block (it may say end of file or an error). Called again and again until paused or
 * closed. */
typedef void (*chv_input_fn)(void *arg);

/* Watches `fd`, paused at first. The descriptor stays the caller's and must stay open until chv_input_close. */
enum chv_err chv_input_open(struct chv_loop *loop, int fd, chv_input_fn ready, void *arg, struct chv_input **input,
                            struct chv_why *why) CHV_MUST_CHECK;
void chv_input_resume(struct chv_input *input);
void chv_input_pause(struct chv_input *input);
/* Frees once the loop turns; no callback is made any more. NULL is allowed. */
void chv_input_close(struct chv_input *input);

#endif
