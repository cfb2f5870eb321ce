# SPDX-License-Identifier: Apache-2.0
# What tests of several layers share: backends that fail on demand or have known ephemerals.
needle_support = tests/support/needle.c tests/support/needle.h
check_LTLIBRARIES = tests/support/libsupport.la
tests_support_libsupport_la_SOURCES = \
	tests/support/fault_backend.c \
	tests/support/fixed_backend.c \
	tests/support/test_backend.h \
	$(NULL)

# For LD_PRELOAD; -rpath makes it shared.
check_LTLIBRARIES += tests/support/clock.la
tests_support_clock_la_SOURCES = tests/support/clock.c
tests_support_clock_la_LDFLAGS = $(AM_LDFLAGS) -module -avoid-version -shared -rpath /nowhere
check_LTLIBRARIES += tests/support/kill_at.la
tests_support_kill_at_la_SOURCES = tests/support/kill_at.c
tests_support_kill_at_la_LDFLAGS = $(AM_LDFLAGS) -module -avoid-version -shared -rpath /nowhere
check_LTLIBRARIES += tests/support/disk.la
tests_support_disk_la_SOURCES = tests/support/disk.c
tests_support_disk_la_LDFLAGS = $(AM_LDFLAGS) -module -avoid-version -shared -rpath /nowhere
check_LTLIBRARIES += tests/support/resolver.la
tests_support_resolver_la_SOURCES = tests/support/resolver.c
tests_support_resolver_la_LDFLAGS = $(AM_LDFLAGS) -module -avoid-version -shared -rpath /nowhere
