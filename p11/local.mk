# SPDX-License-Identifier: Apache-2.0
# PKCS #11 below the backends and keystores: modules, tokens, sessions, objects. No Noise.
noinst_LTLIBRARIES += p11/libp11layer.la
p11_libp11layer_la_SOURCES = \
	p11/ec.c \
	p11/error.c \
	p11/error.h \
	p11/module.c \
	p11/module.h \
	p11/object.c \
	p11/object.h \
	p11/observe.h \
	p11/pin.c \
	p11/pin.h \
	p11/pkcs11_extra.h \
	p11/provision.c \
	p11/provision.h \
	p11/session.c \
	p11/token.c \
	p11/token.h \
	p11/token_private.h \
	p11/uri.c \
	p11/uri.h \
	$(NULL)
p11_libp11layer_la_CFLAGS = $(AM_CFLAGS) $(CRYPTO_CFLAGS) $(P11KIT_CFLAGS) $(LIBP11_CFLAGS)
