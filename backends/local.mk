# SPDX-License-Identifier: Apache-2.0
# Session cryptography: one vtable instance each.
noinst_LTLIBRARIES += backends/libbackends.la
backends_libbackends_la_SOURCES = \
	backends/answers.c \
	backends/answers.h \
	backends/openssl.c \
	backends/openssl.h \
	backends/pkcs11.c \
	backends/pkcs11.h \
	backends/pkcs11_aead.c \
	backends/pkcs11_dh.c \
	backends/pkcs11_private.h \
	backends/pkcs11_probe.c \
	backends/registry.c \
	backends/selftest.c \
	backends/selftest.h \
	$(NULL)
backends_libbackends_la_CFLAGS = $(AM_CFLAGS) $(CRYPTO_CFLAGS) $(P11KIT_CFLAGS)
