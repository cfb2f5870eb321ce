# SPDX-License-Identifier: Apache-2.0
# Long-term secrets, and the library that the layers up to here make.
noinst_LTLIBRARIES += keystore/libkeystore.la libchaveiro-testable.la
keystore_libkeystore_la_SOURCES = \
	keystore/file.c \
	keystore/file.h \
	keystore/file_contents.c \
	keystore/file_disk.c \
	keystore/file_envelope.c \
	keystore/file_openssl.c \
	keystore/file_pem.c \
	keystore/file_pem.h \
	keystore/file_pem_private.h \
	keystore/file_pem_receipt.c \
	keystore/keystore.c \
	keystore/keystore.h \
	keystore/token.c \
	keystore/token.h \
	keystore/token_answers.c \
	keystore/token_answers.h \
	keystore/token_check.c \
	keystore/token_check.h \
	keystore/token_copy.c \
	keystore/token_copy.h \
	keystore/token_derive.c \
	keystore/token_object.c \
	keystore/token_probe.c \
	$(NULL)
keystore_libkeystore_la_CFLAGS = $(AM_CFLAGS) $(CRYPTO_CFLAGS) $(JANSSON_CFLAGS) $(P11KIT_CFLAGS)

chv_layers = keystore/libkeystore.la backends/libbackends.la p11/libp11layer.la core/libcore.la base/libbase.la
chv_layer_libs = $(CRYPTO_LIBS) $(JANSSON_LIBS) $(P11KIT_LIBS) $(LIBP11_LIBS)

# The library with its hidden symbols: for the programs here and the tests.
libchaveiro_testable_la_SOURCES =
libchaveiro_testable_la_LIBADD = $(chv_layers) $(chv_layer_libs)

lib_LTLIBRARIES += libchaveiro.la
libchaveiro_la_SOURCES =
libchaveiro_la_LIBADD = $(chv_layers) $(chv_layer_libs)
libchaveiro_la_LDFLAGS = $(AM_LDFLAGS) -version-info 0:0:0 -no-undefined \
	-export-symbols $(srcdir)/dist/libchaveiro.sym
libchaveiro_la_DEPENDENCIES = $(chv_layers) dist/libchaveiro.sym
