# SPDX-License-Identifier: Apache-2.0
net_test_cflags = $(test_cflags) $(UV_CFLAGS) $(CBOR_CFLAGS)
net_test_libs = net/libnet.la $(test_libs) $(UV_LIBS) $(CBOR_LIBS)

net_tests = \
	tests/net/conn_test \
	$(NULL)
check_PROGRAMS += $(net_tests)
TESTS += $(net_tests)

tests_net_conn_test_SOURCES = tests/net/conn_test.c tests/net/conn_support.c tests/net/conn_support.h
tests_net_conn_test_CFLAGS = $(net_test_cflags)
tests_net_conn_test_LDADD = $(net_test_libs)
