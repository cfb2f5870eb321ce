# SPDX-License-Identifier: Apache-2.0
# One folder of tests per layer; tests/harness.h runs a CUnit suite, tests/tap.* none: exit codes and CUnit summaries only.
EXTRA_DIST += tests/harness.h
test_cflags = $(AM_CFLAGS) $(CUNIT_CFLAGS) $(CRYPTO_CFLAGS)
test_libs = libchaveiro-testable.la $(CUNIT_LIBS) $(CRYPTO_LIBS)

include tests/base/local.mk
include tests/core/local.mk
include tests/backends/local.mk
include tests/keystore/local.mk
include tests/net/local.mk
include tests/tools/local.mk
