# SPDX-License-Identifier: Apache-2.0
# One folder of tests per layer. A test is a program or script that exits with 0, 77 (skipped: it says why) or else failed.
EXTRA_DIST += tests/harness.h
AM_TESTS_ENVIRONMENT = \
	top_srcdir='$(abs_top_srcdir)'; export top_srcdir; \
	top_builddir='$(abs_top_builddir)'; export top_builddir; \
	PYTHON3='$(PYTHON3)'; export PYTHON3; \
	PYTHONDONTWRITEBYTECODE=1; export PYTHONDONTWRITEBYTECODE;
test_cflags = $(AM_CFLAGS) $(CUNIT_CFLAGS) $(CRYPTO_CFLAGS)
test_libs = libchaveiro-testable.la $(CUNIT_LIBS) $(CRYPTO_LIBS)

include tests/support/local.mk
include tests/base/local.mk
include tests/core/local.mk
include tests/backends/local.mk
include tests/keystore/local.mk
include tests/net/local.mk
include tests/tools/local.mk
