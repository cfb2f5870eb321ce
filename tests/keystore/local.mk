# SPDX-License-Identifier: Apache-2.0
keystore_test_support = tests/keystore/support.c tests/keystore/support.h
keystore_tests = \
	tests/keystore/contract \
	tests/keystore/file_refuse \
	$(NULL)
check_PROGRAMS += $(keystore_tests)
TESTS += $(keystore_tests)

tests_keystore_contract_SOURCES = tests/keystore/contract.c $(keystore_test_support)
tests_keystore_contract_CFLAGS = $(test_cflags)
tests_keystore_contract_LDADD = $(test_libs)

tests_keystore_file_refuse_SOURCES = tests/keystore/file_refuse.c $(keystore_test_support)
tests_keystore_file_refuse_CFLAGS = $(test_cflags)
tests_keystore_file_refuse_LDADD = $(test_libs)
