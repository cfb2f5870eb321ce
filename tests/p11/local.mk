# SPDX-License-Identifier: Apache-2.0
# Throw-away tokens, for the tests of this layer and those above.
check_LTLIBRARIES += tests/support/libtokens.la
tests_support_libtokens_la_SOURCES = tests/support/tokens.c tests/support/tokens.h
tests_support_libtokens_la_CFLAGS = $(AM_CFLAGS) $(P11KIT_CFLAGS)
