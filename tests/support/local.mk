# SPDX-License-Identifier: Apache-2.0
# What tests of several layers share: backends that fail on demand or have known ephemerals.
check_LTLIBRARIES = tests/support/libsupport.la
tests_support_libsupport_la_SOURCES = \
	tests/support/fault_backend.c \
	tests/support/fixed_backend.c \
	tests/support/test_backend.h \
	$(NULL)
