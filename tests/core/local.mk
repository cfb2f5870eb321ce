# SPDX-License-Identifier: Apache-2.0
# The protocol: patterns, Noise engine, key derivation; external vectors; interoperability.
check_PROGRAMS += tests/noise-vectors
tests_noise_vectors_SOURCES = tests/core/noise_vectors.c
tests_noise_vectors_CFLAGS = $(test_cflags) $(JANSSON_CFLAGS)
tests_noise_vectors_LDADD = tests/support/libsupport.la $(test_libs) $(JANSSON_LIBS)

core_test_scripts = \
	tests/core/flynn_vectors.sh \
	tests/core/noise_vectors.sh \
	$(NULL)
TESTS += $(core_test_scripts)
dist_check_SCRIPTS += $(core_test_scripts)
EXTRA_DIST += tests/core/flynn_to_json.py
