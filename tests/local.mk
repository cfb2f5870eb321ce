# SPDX-License-Identifier: Apache-2.0
# One folder of tests per layer. A test is a program or script that exits with 0, 77 (skipped: it says why) or else failed.
# Programs print CUnit's summary, scripts (*.py, on tests/support/chv.py) end with "N passed, N failed".
EXTRA_DIST += tests/harness.h tests/support/chv.py
dist_check_SCRIPTS += tests/build_time.py tests/layers tests/exports tests/installed tests/summary
dist_check_SCRIPTS += tests/support/harness.py tests/support/summary_test.py
TESTS += tests/build_time.py tests/layers tests/exports tests/support/harness.py tests/support/summary_test.py
TEST_EXTENSIONS = .py
PY_LOG_COMPILER = $(PYTHON3)
AM_TESTS_ENVIRONMENT = \
	top_srcdir='$(abs_top_srcdir)'; export top_srcdir; \
	top_builddir='$(abs_top_builddir)'; export top_builddir; \
	PYTHONPATH='$(abs_top_srcdir)/tests/support'; export PYTHONPATH; \
	PYTHON3='$(PYTHON3)'; export PYTHON3; \
	PYTHONDONTWRITEBYTECODE=1; export PYTHONDONTWRITEBYTECODE;
test_cflags = $(AM_CFLAGS) $(CUNIT_CFLAGS) $(CRYPTO_CFLAGS)
test_libs = libchaveiro-testable.la $(CUNIT_LIBS) $(CRYPTO_LIBS)

include tests/support/local.mk
include tests/base/local.mk
include tests/core/local.mk
include tests/p11/local.mk
include tests/backends/local.mk
include tests/keystore/local.mk
include tests/registry/local.mk
include tests/net/local.mk
include tests/services/local.mk
include tests/tools/local.mk

# What takes programs that few have, or minutes: scripts/check --long.  Skipped tests are no failure of make.
check-long: all
	$(AM_TESTS_ENVIRONMENT) CHV_TEST_LONG=1 $(PYTHON3) $(srcdir)/tests/tools/files_server.py test_more_than_4_gib
	$(AM_TESTS_ENVIRONMENT) CHV_TEST_LONG=1 $(PYTHON3) $(srcdir)/tests/keystore/tpm.py || test $$? -eq 77
.PHONY: check-long

# After `make install`; part of distcheck.
installcheck-local:
	CC='$(CC)' $(srcdir)/tests/installed '$(DESTDIR)' '$(pkgconfigdir)' '$(libdir)' \
		$(bin_PROGRAMS:tools/%=$(bindir)/%) $(sbin_PROGRAMS:tools/%=$(sbindir)/%)
