# SPDX-License-Identifier: Apache-2.0
# Measurements, built and run by `make bench` only: a timed test would fail on a busy machine.
bench_measures = \
	bench/handshake \
	bench/record \
	bench/token_backend \
	bench/token_keystore \
	$(NULL)
bench_helpers = \
	bench/blast \
	bench/connect_load \
	bench/relay \
	bench/tls_load \
	bench/tls_server \
	$(NULL)
bench_programs = $(bench_measures) $(bench_helpers)
EXTRA_PROGRAMS += $(bench_programs)
CLEANFILES += $(bench_programs)
EXTRA_DIST += bench/bench.h bench/net.h
EXTRA_DIST += bench/common.py bench/connect.py bench/files.py bench/idle.py bench/limits.py bench/tunnel.py bench/tunnels.py

bench_blast_SOURCES = \
	bench/blast.c \
	bench/blast.h \
	bench/blast_sink.c \
	$(NULL)
bench_relay_SOURCES = bench/relay.c

bench_connect_load_SOURCES = bench/connect_load.c
bench_connect_load_CFLAGS = $(tool_cflags)
bench_connect_load_LDADD = $(tool_libs)

bench_tls_server_SOURCES = bench/tls_psk.c bench/tls_psk.h bench/tls_server.c
bench_tls_server_CFLAGS = $(AM_CFLAGS) $(SSL_CFLAGS)
bench_tls_server_LDADD = $(SSL_LIBS) $(CRYPTO_LIBS)
bench_tls_load_SOURCES = bench/tls_load.c bench/tls_psk.c bench/tls_psk.h
bench_tls_load_CFLAGS = $(AM_CFLAGS) $(SSL_CFLAGS)
bench_tls_load_LDADD = $(SSL_LIBS) $(CRYPTO_LIBS)

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

# make bench: all of it; make bench BENCH="tunnel idle": these; BENCH_ARGS=--markdown: for the scripts, whose --help says more.
# What is compared with stands in Debian: scripts/install-packages bench; who is not installed is left out with a note.
BENCH = limits handshake record token_backend token_keystore connect tunnel idle files
BENCH_ARGS =
.PHONY: bench
bench: $(bench_programs) $(bin_PROGRAMS) $(sbin_PROGRAMS)
	@$(AM_TESTS_ENVIRONMENT) for name in $(BENCH); do \
		if test -f $(srcdir)/bench/$$name.py; then $(PYTHON3) $(srcdir)/bench/$$name.py $(BENCH_ARGS); \
		else ./bench/$$name; fi || exit 1; echo; \
	done
