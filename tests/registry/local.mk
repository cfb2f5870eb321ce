# SPDX-License-Identifier: Apache-2.0
registry_test_cflags = $(test_cflags) $(SQLITE_CFLAGS) $(PQ_CFLAGS)
registry_test_libs = registry/libregistry.la $(test_libs) $(SQLITE_LIBS) $(PQ_LIBS)
registry_test_support = tests/registry/support.c tests/registry/support.h
registry_tests = \
	tests/registry/audit_test \
	tests/registry/contract \
	tests/registry/contract_tables \
	tests/registry/documented \
	tests/registry/lookup_test \
	tests/registry/revoked_set_test \
	tests/registry/revoked_test \
	tests/registry/sqlite_faults \
	tests/registry/writers \
	$(NULL)
check_PROGRAMS += $(registry_tests) tests/registry/postgresql_faults
TESTS += $(registry_tests) tests/registry/postgresql.py
EXTRA_DIST += tests/support/postgres.py
dist_check_SCRIPTS += tests/registry/postgresql.py

tests_registry_audit_test_SOURCES = tests/registry/audit_test.c $(registry_test_support)
tests_registry_audit_test_CFLAGS = $(registry_test_cflags)
tests_registry_audit_test_LDADD = $(registry_test_libs)

tests_registry_contract_SOURCES = tests/registry/contract.c $(registry_test_support)
tests_registry_contract_CFLAGS = $(registry_test_cflags)
tests_registry_contract_LDADD = $(registry_test_libs)

tests_registry_contract_tables_SOURCES = tests/registry/contract_tables.c $(registry_test_support)
tests_registry_contract_tables_CFLAGS = $(registry_test_cflags)
tests_registry_contract_tables_LDADD = $(registry_test_libs)

tests_registry_lookup_test_SOURCES = tests/registry/lookup_test.c $(registry_test_support)
tests_registry_lookup_test_CFLAGS = $(registry_test_cflags)
tests_registry_lookup_test_LDADD = $(registry_test_libs)

tests_registry_revoked_set_test_SOURCES = tests/registry/revoked_set_test.c $(registry_test_support)
tests_registry_revoked_set_test_CFLAGS = $(registry_test_cflags)
tests_registry_revoked_set_test_LDADD = $(registry_test_libs)

tests_registry_revoked_test_SOURCES = tests/registry/revoked_test.c $(registry_test_support)
tests_registry_revoked_test_CFLAGS = $(registry_test_cflags)
tests_registry_revoked_test_LDADD = $(registry_test_libs)

tests_registry_sqlite_faults_SOURCES = tests/registry/sqlite_faults.c tests/registry/fault_vfs.c \
	tests/registry/fault_vfs.h $(registry_test_support)
tests_registry_sqlite_faults_CFLAGS = $(registry_test_cflags)
tests_registry_sqlite_faults_LDADD = $(registry_test_libs)

tests_registry_postgresql_faults_SOURCES = tests/registry/postgresql_faults.c $(registry_test_support)
tests_registry_postgresql_faults_CFLAGS = $(registry_test_cflags)
tests_registry_postgresql_faults_LDADD = $(registry_test_libs)

tests_registry_writers_SOURCES = tests/registry/writers.c $(registry_test_support)
tests_registry_writers_CFLAGS = $(registry_test_cflags)
tests_registry_writers_LDADD = $(registry_test_libs)

tests_registry_documented_SOURCES = tests/registry/documented.c $(registry_test_support)
tests_registry_documented_CFLAGS = $(registry_test_cflags)
tests_registry_documented_LDADD = $(registry_test_libs)

check_PROGRAMS += tests/registry/registry_tool
tests_registry_registry_tool_SOURCES = tests/registry/registry_tool.c
tests_registry_registry_tool_CFLAGS = $(registry_test_cflags)
tests_registry_registry_tool_LDADD = $(registry_test_libs)
