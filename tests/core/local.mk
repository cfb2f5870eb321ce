# SPDX-License-Identifier: Apache-2.0
# The protocol: patterns, Noise engine, key derivation; external vectors; interoperability.
check_PROGRAMS += tests/noise-vectors
tests_noise_vectors_SOURCES = tests/core/noise_vectors.c
tests_noise_vectors_CFLAGS = $(test_cflags) $(JANSSON_CFLAGS)
tests_noise_vectors_LDADD = tests/support/libsupport.la $(test_libs) $(JANSSON_LIBS)

noise_tests = \
	tests/core/hkdf_test \
	tests/core/identity_test \
	tests/core/noise_fault_test \
	tests/core/noise_state_test \
	tests/core/noise_test \
	tests/core/pattern_test \
	$(NULL)
check_PROGRAMS += $(noise_tests)
TESTS += $(noise_tests)
noise_pair = tests/core/noise_pair.c tests/core/noise_pair.h
noise_libs = tests/support/libsupport.la $(test_libs)
tests_core_hkdf_test_CFLAGS = $(test_cflags)
tests_core_hkdf_test_LDADD = $(noise_libs)
tests_core_identity_test_CFLAGS = $(test_cflags)
tests_core_identity_test_LDADD = $(test_libs)
tests_core_noise_fault_test_SOURCES = tests/core/noise_fault_test.c $(noise_pair)
tests_core_noise_fault_test_CFLAGS = $(test_cflags)
tests_core_noise_fault_test_LDADD = $(noise_libs)
tests_core_noise_state_test_SOURCES = tests/core/noise_state_test.c $(noise_pair)
tests_core_noise_state_test_CFLAGS = $(test_cflags)
tests_core_noise_state_test_LDADD = $(noise_libs)
tests_core_noise_test_SOURCES = tests/core/noise_test.c $(noise_pair)
tests_core_noise_test_CFLAGS = $(test_cflags)
tests_core_noise_test_LDADD = $(noise_libs)
tests_core_pattern_test_CFLAGS = $(test_cflags)
tests_core_pattern_test_LDADD = $(noise_libs)

check_PROGRAMS += tests/core/interop
tests_core_interop_CFLAGS = $(test_cflags)
tests_core_interop_LDADD = $(test_libs)

core_test_scripts = \
	tests/core/flynn_vectors.sh \
	tests/core/interop.sh \
	tests/core/noise_vectors.sh \
	$(NULL)
TESTS += $(core_test_scripts)
dist_check_SCRIPTS += $(core_test_scripts)
EXTRA_DIST += tests/core/flynn_to_json.py tests/core/interop_dissononce.py

session_tests = \
	tests/core/channel_test \
	tests/core/credential_test \
	tests/core/handshake_test \
	tests/core/hostile_test \
	tests/core/reply_test \
	tests/core/residue_test \
	tests/core/resume_test \
	tests/core/ticket_test \
	tests/core/update_test \
	$(NULL)
check_PROGRAMS += $(session_tests)
TESTS += $(session_tests)
check_LTLIBRARIES += tests/core/libpair.la
tests_core_libpair_la_SOURCES = tests/core/pair.c tests/core/pair.h
tests_core_libpair_la_CFLAGS = $(test_cflags)
session_libs = tests/core/libpair.la tests/support/libsupport.la $(test_libs)
tests_core_channel_test_CFLAGS = $(test_cflags)
tests_core_channel_test_LDADD = $(session_libs)
tests_core_credential_test_CFLAGS = $(test_cflags)
tests_core_credential_test_LDADD = $(session_libs)
tests_core_handshake_test_CFLAGS = $(test_cflags)
tests_core_handshake_test_LDADD = $(session_libs)
tests_core_hostile_test_CFLAGS = $(test_cflags)
tests_core_hostile_test_LDADD = $(session_libs)
tests_core_reply_test_CFLAGS = $(test_cflags)
tests_core_reply_test_LDADD = $(session_libs)
tests_core_update_test_CFLAGS = $(test_cflags)
tests_core_update_test_LDADD = $(session_libs)
tests_core_residue_test_CFLAGS = $(test_cflags)
tests_core_residue_test_LDADD = $(session_libs)
tests_core_resume_test_CFLAGS = $(test_cflags)
tests_core_resume_test_LDADD = $(session_libs)
tests_core_ticket_test_CFLAGS = $(test_cflags)
tests_core_ticket_test_LDADD = tests/support/libsupport.la $(test_libs)

# The worked vectors of doc/protocol.md: by the library, and by a program of its own.
check_PROGRAMS += tests/core/doc_vectors_test
TESTS += tests/core/doc_vectors_test tests/core/doc_vectors.py
dist_check_SCRIPTS += tests/core/doc_vectors.py
tests_core_doc_vectors_test_CFLAGS = $(test_cflags)
tests_core_doc_vectors_test_LDADD = tests/support/libsupport.la $(test_libs)
