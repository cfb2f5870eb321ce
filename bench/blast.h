/* SPDX-License-Identifier: Apache-2.0 */
/* Source and sink of the tunnel's measurements, in one process: both ends of each stream know of each other. */
#ifndef CHV_BENCH_BLAST_H
#define CHV_BENCH_BLAST_H

#include "bench/net.h"

#include <stdatomic.h>

enum { BLAST_STREAMS = 1024, BLAST_BUFFER = 256 * 1024, BLAST_SMALL = 64 };

/* What a stream begins with. */
struct blast_head {
    uint64_t bytes; /* BLAST_SINK: that many follow, then one byte comes back; 0: as many as come */
    uint32_t kind;
    uint32_t stream; /* BLAST_SINK: whose counter */
};
enum { BLAST_SINK = 1, BLAST_ECHO = 2 };

extern atomic_ullong blast_received[BLAST_STREAMS];

/* blast_sink.c: serves `listener` in a thread of its own, for ever. */
void blast_serve(int listener);

#endif
