# SPDX-License-Identifier: Apache-2.0
keystore_test_support = tests/keystore/support.c tests/keystore/support.h
keystore_tests = \
	tests/keystore/contract \
	tests/keystore/file \
	tests/keystore/file_crash \
	tests/keystore/file_memory \
	tests/keystore/file_refuse \
	tests/keystore/file_writers \
	tests/keystore/pem \
	tests/keystore/token_check \
	tests/keystore/token_calls \
	tests/keystore/token_faults \
	tests/keystore/token_keys \
	tests/keystore/token_lost \
	tests/keystore/token_open \
	tests/keystore/token_probe \
	$(NULL)
check_PROGRAMS += $(keystore_tests) tests/keystore/file_make
dist_check_SCRIPTS += tests/keystore/file_format.py
EXTRA_DIST += tests/keystore/tpm.py tests/support/swtpm.py
TESTS += $(keystore_tests) tests/keystore/file_format.py

tests_keystore_contract_SOURCES = tests/keystore/contract.c $(keystore_test_support)
tests_keystore_contract_CFLAGS = $(test_cflags)
tests_keystore_contract_LDADD = tests/support/libtokens.la $(test_libs)

tests_keystore_file_SOURCES = tests/keystore/file.c $(keystore_test_support)
tests_keystore_file_CFLAGS = $(test_cflags)
tests_keystore_file_LDADD = $(test_libs)

tests_keystore_file_crash_SOURCES = tests/keystore/file_crash.c $(keystore_test_support)
tests_keystore_file_crash_CFLAGS = $(test_cflags)
tests_keystore_file_crash_LDADD = $(test_libs)
tests_keystore_file_crash_LDFLAGS = $(AM_LDFLAGS) \
	-Wl,--wrap=openat \
	-Wl,--wrap=write \
	-Wl,--wrap=pwrite \
	-Wl,--wrap=ftruncate \
	-Wl,--wrap=fsync \
	-Wl,--wrap=fchmod \
	-Wl,--wrap=close \
	-Wl,--wrap=flock \
	-Wl,--wrap=renameat \
	-Wl,--wrap=renameat2 \
	-Wl,--wrap=linkat \
	-Wl,--wrap=unlinkat \
	$(NULL)

tests_keystore_file_refuse_SOURCES = tests/keystore/file_refuse.c $(keystore_test_support)
tests_keystore_file_refuse_CFLAGS = $(test_cflags)
tests_keystore_file_refuse_LDADD = $(test_libs)

tests_keystore_file_writers_SOURCES = tests/keystore/file_writers.c $(keystore_test_support)
tests_keystore_file_writers_CFLAGS = $(test_cflags)
tests_keystore_file_writers_LDADD = $(test_libs)

tests_keystore_file_memory_SOURCES = tests/keystore/file_memory.c $(needle_support) $(keystore_test_support)
tests_keystore_file_memory_CFLAGS = $(test_cflags)
tests_keystore_file_memory_LDADD = $(test_libs)

tests_keystore_pem_SOURCES = tests/keystore/pem.c $(keystore_test_support)
tests_keystore_pem_CFLAGS = $(test_cflags)
tests_keystore_pem_LDADD = $(test_libs)

tests_keystore_file_make_SOURCES = tests/keystore/file_make.c
tests_keystore_file_make_CFLAGS = $(AM_CFLAGS)
tests_keystore_file_make_LDADD = libchaveiro-testable.la

tests_keystore_token_check_SOURCES = tests/keystore/token_check.c $(keystore_test_support)
tests_keystore_token_check_CFLAGS = $(test_cflags) $(P11KIT_CFLAGS)
tests_keystore_token_check_LDADD = tests/support/libtokens.la $(test_libs)

tests_keystore_token_calls_SOURCES = tests/keystore/token_calls.c $(keystore_test_support)
tests_keystore_token_calls_CFLAGS = $(test_cflags) $(P11KIT_CFLAGS)
tests_keystore_token_calls_LDADD = tests/support/libtokens.la $(test_libs)

tests_keystore_token_faults_SOURCES = tests/keystore/token_faults.c $(keystore_test_support)
tests_keystore_token_faults_CFLAGS = $(test_cflags) $(P11KIT_CFLAGS)
tests_keystore_token_faults_LDADD = tests/support/libtokens.la $(test_libs)

tests_keystore_token_lost_SOURCES = tests/keystore/token_lost.c $(keystore_test_support)
tests_keystore_token_lost_CFLAGS = $(test_cflags) $(P11KIT_CFLAGS)
tests_keystore_token_lost_LDADD = tests/support/libtokens.la $(test_libs)

tests_keystore_token_keys_SOURCES = tests/keystore/token_keys.c $(keystore_test_support)
tests_keystore_token_keys_CFLAGS = $(test_cflags) $(P11KIT_CFLAGS)
tests_keystore_token_keys_LDADD = tests/support/libtokens.la $(test_libs)

tests_keystore_token_open_SOURCES = tests/keystore/token_open.c $(keystore_test_support)
tests_keystore_token_open_CFLAGS = $(test_cflags) $(P11KIT_CFLAGS)
tests_keystore_token_open_LDADD = tests/support/libtokens.la $(test_libs)

tests_keystore_token_probe_SOURCES = tests/keystore/token_probe.c $(keystore_test_support)
tests_keystore_token_probe_CFLAGS = $(test_cflags) $(P11KIT_CFLAGS)
tests_keystore_token_probe_LDADD = tests/support/libtokens.la $(test_libs)
