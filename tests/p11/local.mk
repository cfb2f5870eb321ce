# SPDX-License-Identifier: Apache-2.0
# Throw-away tokens, for the tests of this layer and those above.
check_LTLIBRARIES += tests/support/libtokens.la
tests_support_libtokens_la_SOURCES = \
	tests/support/fault_module.c \
	tests/support/pkcs11_fault.h \
	tests/support/tokens.c \
	tests/support/tokens.h \
	$(NULL)
tests_support_libtokens_la_CFLAGS = $(AM_CFLAGS) $(P11KIT_CFLAGS)

# A module that is loaded by its path; -rpath makes it shared.
check_LTLIBRARIES += tests/support/pkcs11_fault.la
tests_support_pkcs11_fault_la_SOURCES = tests/support/pkcs11_fault.c tests/support/pkcs11_fault.h
tests_support_pkcs11_fault_la_CFLAGS = $(AM_CFLAGS) $(P11KIT_CFLAGS)
tests_support_pkcs11_fault_la_LDFLAGS = $(AM_LDFLAGS) -module -avoid-version -shared -rpath /nowhere

p11_tests = \
	tests/p11/pool_test \
	tests/p11/provision_test \
	tests/p11/uri_test \
	$(NULL)
check_PROGRAMS += $(p11_tests) tests/p11/token_tool
TESTS += $(p11_tests)
p11_test_cflags = $(test_cflags) $(P11KIT_CFLAGS)
p11_test_libs = tests/support/libtokens.la $(test_libs)

tests_p11_uri_test_SOURCES = tests/p11/uri_test.c
tests_p11_uri_test_CFLAGS = $(p11_test_cflags)
tests_p11_uri_test_LDADD = $(p11_test_libs)

tests_p11_token_tool_SOURCES = tests/p11/token_tool.c
tests_p11_token_tool_CFLAGS = $(AM_CFLAGS) $(P11KIT_CFLAGS)
tests_p11_token_tool_LDADD = libchaveiro-testable.la

tests_p11_pool_test_SOURCES = tests/p11/pool_test.c
tests_p11_pool_test_CFLAGS = $(p11_test_cflags)
tests_p11_pool_test_LDADD = $(p11_test_libs)

tests_p11_provision_test_SOURCES = tests/p11/provision_test.c
tests_p11_provision_test_CFLAGS = $(p11_test_cflags)
tests_p11_provision_test_LDADD = $(p11_test_libs)
