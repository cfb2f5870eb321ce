# SPDX-License-Identifier: Apache-2.0
# Session cryptography: one vtable instance each.
noinst_LTLIBRARIES += backends/libbackends.la
backends_libbackends_la_SOURCES = \
	backends/openssl.c \
	backends/openssl.h \
	backends/registry.c \
	backends/selftest.c \
	backends/selftest.h \
	$(NULL)
backends_libbackends_la_CFLAGS = $(AM_CFLAGS) $(CRYPTO_CFLAGS)
