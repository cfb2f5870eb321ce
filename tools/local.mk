# SPDX-License-Identifier: Apache-2.0
# The programs: argument parsing, configuration, printing.
noinst_LTLIBRARIES += tools/libtools.la
tools_libtools_la_SOURCES = \
	tools/cli.c \
	tools/cli.h \
	tools/cli_print.c \
	tools/secret.c \
	tools/secret.h \
	tools/times.c \
	tools/times.h \
	$(NULL)
tools_libtools_la_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS)
tools_libtools_la_LIBADD = $(JANSSON_LIBS)
