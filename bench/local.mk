# SPDX-License-Identifier: Apache-2.0
# Measurements, built and run by `make bench` only: a timed test would fail on a busy machine.
bench_programs = \
	bench/handshake \
	bench/record \
	bench/token_backend \
	bench/token_keystore \
	$(NULL)
EXTRA_PROGRAMS += $(bench_programs)
CLEANFILES += $(bench_programs)
EXTRA_DIST += bench/bench.h bench/files.py

bench_handshake_SOURCES = \
	bench/handshake.c \
	bench/handshake.h \
	bench/handshake_noise.c \
	bench/handshake_session.c \
	bench/handshake_tls.c \
	$(NULL)
bench_handshake_CFLAGS = $(AM_CFLAGS) $(SSL_CFLAGS)
bench_handshake_LDADD = libchaveiro-testable.la $(SSL_LIBS) $(CRYPTO_LIBS)

bench_record_SOURCES = bench/record.c
bench_record_CFLAGS = $(AM_CFLAGS) $(CRYPTO_CFLAGS)
bench_record_LDADD = libchaveiro-testable.la $(CRYPTO_LIBS)

bench_token_backend_SOURCES = \
	bench/handshake.h \
	bench/handshake_session.c \
	bench/token_backend.c \
	$(NULL)
bench_token_backend_CFLAGS = $(AM_CFLAGS) $(CRYPTO_CFLAGS) $(P11KIT_CFLAGS)
bench_token_backend_LDADD = tests/support/libtokens.la libchaveiro-testable.la $(CRYPTO_LIBS)

bench_token_keystore_SOURCES = \
	bench/handshake.h \
	bench/handshake_session.c \
	bench/token_keystore.c \
	$(NULL)
bench_token_keystore_CFLAGS = $(AM_CFLAGS) $(CRYPTO_CFLAGS) $(P11KIT_CFLAGS)
bench_token_keystore_LDADD = tests/support/libtokens.la libchaveiro-testable.la $(CRYPTO_LIBS)

.PHONY: bench
bench: $(bench_programs) $(bin_PROGRAMS) $(sbin_PROGRAMS)
	@for program in $(bench_programs); do ./$$program || exit 1; done
	@$(AM_TESTS_ENVIRONMENT) $(PYTHON3) $(srcdir)/bench/files.py
