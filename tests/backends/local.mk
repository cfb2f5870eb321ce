# SPDX-License-Identifier: Apache-2.0
# Backends: one contract over all of them, their table and self-test, known answers from outside.
backends_test_programs = \
	tests/backends/contract \
	tests/backends/forget \
	tests/backends/registry \
	tests/backends/threads \
	$(NULL)
check_PROGRAMS += $(backends_test_programs) tests/wycheproof
TESTS += $(backends_test_programs) tests/backends/wycheproof.sh
dist_check_SCRIPTS += tests/backends/wycheproof.sh
EXTRA_DIST += tests/backends/debian_vectors.py

tests_backends_contract_SOURCES = \
	tests/backends/contract.c \
	tests/backends/contract.h \
	tests/backends/contract_aead.c \
	$(NULL)
tests_backends_contract_CFLAGS = $(test_cflags)
tests_backends_contract_LDADD = $(test_libs)

tests_backends_forget_SOURCES = tests/backends/forget.c
tests_backends_forget_CFLAGS = $(test_cflags)
tests_backends_forget_LDADD = tests/core/libpair.la tests/support/libsupport.la $(test_libs)

tests_backends_registry_SOURCES = tests/backends/registry.c
tests_backends_registry_CFLAGS = $(test_cflags)
tests_backends_registry_LDADD = tests/support/libsupport.la $(test_libs)

tests_wycheproof_SOURCES = tests/backends/wycheproof.c
tests_wycheproof_CFLAGS = $(test_cflags) $(JANSSON_CFLAGS)
tests_wycheproof_LDADD = $(test_libs) $(JANSSON_LIBS)

tests_backends_threads_SOURCES = tests/backends/threads.c
tests_backends_threads_CFLAGS = $(test_cflags)
tests_backends_threads_LDADD = $(test_libs)

# The same over tokens, each in a folder of its own: pkcs11.sh makes them and gives their URIs.
check_PROGRAMS += tests/backends/pkcs11_lost tests/backends/pkcs11_session
TESTS += tests/backends/pkcs11.sh tests/backends/pkcs11_lost
dist_check_SCRIPTS += tests/backends/pkcs11.sh
tests_backends_pkcs11_session_SOURCES = tests/backends/pkcs11_session.c
tests_backends_pkcs11_session_CFLAGS = $(test_cflags) $(P11KIT_CFLAGS)
tests_backends_pkcs11_session_LDADD = $(session_libs) $(P11KIT_LIBS)

tests_backends_pkcs11_lost_SOURCES = tests/backends/pkcs11_lost.c
tests_backends_pkcs11_lost_CFLAGS = $(test_cflags) $(P11KIT_CFLAGS)
tests_backends_pkcs11_lost_LDADD = tests/support/libtokens.la $(test_libs) $(P11KIT_LIBS)
