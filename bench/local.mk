# SPDX-License-Identifier: Apache-2.0
# Measurements, built and run by `make bench` only: a timed test would fail on a busy machine.
bench_programs = \
	bench/record \
	$(NULL)
EXTRA_PROGRAMS += $(bench_programs)
CLEANFILES += $(bench_programs)
EXTRA_DIST += bench/bench.h

bench_record_SOURCES = bench/record.c
bench_record_CFLAGS = $(AM_CFLAGS) $(CRYPTO_CFLAGS)
bench_record_LDADD = libchaveiro-testable.la $(CRYPTO_LIBS)

.PHONY: bench
bench: $(bench_programs)
	@for program in $(bench_programs); do ./$$program || exit 1; done
