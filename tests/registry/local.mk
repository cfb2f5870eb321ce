# SPDX-License-Identifier: Apache-2.0
registry_test_cflags = $(test_cflags) $(SQLITE_CFLAGS) $(PQ_CFLAGS)
registry_test_libs = registry/libregistry.la $(test_libs) $(SQLITE_LIBS) $(PQ_LIBS)
registry_test_support = tests/registry/support.c tests/registry/support.h
registry_tests = \
	tests/registry/contract \
	$(NULL)
check_PROGRAMS += $(registry_tests)
TESTS += $(registry_tests) tests/registry/postgresql.py
EXTRA_DIST += tests/support/postgres.py
dist_check_SCRIPTS += tests/registry/postgresql.py

tests_registry_contract_SOURCES = tests/registry/contract.c $(registry_test_support)
tests_registry_contract_CFLAGS = $(registry_test_cflags)
tests_registry_contract_LDADD = $(registry_test_libs)
