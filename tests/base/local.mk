# SPDX-License-Identifier: Apache-2.0
# Errors, cursors, encodings, memory.
base_test_programs = \
	tests/base/bytes \
	tests/base/encode \
	tests/base/error \
	tests/base/memory \
	$(NULL)
check_PROGRAMS += $(base_test_programs)
TESTS += $(base_test_programs)

tests_base_bytes_SOURCES = tests/base/bytes.c
tests_base_bytes_CFLAGS = $(test_cflags)
tests_base_bytes_LDADD = base/libbase.la $(CUNIT_LIBS)
tests_base_encode_SOURCES = tests/base/encode.c
tests_base_encode_CFLAGS = $(test_cflags)
tests_base_encode_LDADD = base/libbase.la $(CUNIT_LIBS)
tests_base_error_SOURCES = tests/base/error.c
tests_base_error_CFLAGS = $(test_cflags)
tests_base_error_LDADD = base/libbase.la $(CUNIT_LIBS)
tests_base_memory_SOURCES = tests/base/memory.c
tests_base_memory_CFLAGS = $(test_cflags)
tests_base_memory_LDADD = base/libbase.la $(CUNIT_LIBS)
