# SPDX-License-Identifier: Apache-2.0
# The programs: argument parsing, configuration, printing.
noinst_LTLIBRARIES += tools/libtools.la
tools_libtools_la_SOURCES = \
	tools/cli.c \
	tools/cli.h \
	tools/secret.c \
	tools/secret.h \
	$(NULL)
