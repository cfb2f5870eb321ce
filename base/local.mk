# SPDX-License-Identifier: Apache-2.0
# libc only: errors, wiping, secure memory, byte cursors, encodings.
noinst_LTLIBRARIES += base/libbase.la
base_libbase_la_SOURCES = \
	base/bytes.c \
	base/bytes.h \
	base/encode.c \
	base/encode.h \
	base/error.c \
	base/memory.c \
	base/memory.h \
	$(NULL)
