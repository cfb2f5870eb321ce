# SPDX-License-Identifier: Apache-2.0
net_test_cflags = $(test_cflags) $(UV_CFLAGS) $(CBOR_CFLAGS)
net_test_libs = net/libnet.la registry/libregistry.la $(test_libs) $(UV_LIBS) $(CBOR_LIBS)
conn_support = tests/net/conn_support.c tests/net/conn_support.h

net_tests = \
	tests/net/allowlist_test \
	tests/net/conn_connect_test \
	tests/net/conn_duplex_test \
	tests/net/conn_end_test \
	tests/net/conn_limits_test \
	tests/net/conn_slots_test \
	tests/net/conn_test \
	tests/net/conn_ticket_test \
	tests/net/connector_client_test \
	tests/net/connector_test \
	tests/net/control_test \
	tests/net/filemark_test \
	tests/net/keeper_client_test \
	tests/net/keeper_process_test \
	tests/net/keeper_receipt_test \
	tests/net/keeper_test \
	tests/net/keeper_ticket_test \
	tests/net/keyqueue_test \
	tests/net/listener_test \
	tests/net/log_test \
	tests/net/ratelimit_test \
	tests/net/receipt_test \
	tests/net/registrar_client_test \
	tests/net/registrar_process_test \
	tests/net/registrar_test \
	tests/net/sandbox_test \
	tests/net/server_expiry_test \
	tests/net/ticket_store_test \
	tests/net/tickets_test \
	tests/net/supervisor_tickets_test \
	tests/net/ticket_keys_test \
	$(NULL)
check_PROGRAMS += $(net_tests)
TESTS += $(net_tests)

tests_net_allowlist_test_SOURCES = tests/net/allowlist_test.c
tests_net_allowlist_test_CFLAGS = $(net_test_cflags)
tests_net_allowlist_test_LDADD = $(net_test_libs)

tests_net_conn_connect_test_SOURCES = tests/net/conn_connect_test.c $(conn_support)
tests_net_conn_connect_test_CFLAGS = $(net_test_cflags)
tests_net_conn_connect_test_LDADD = $(net_test_libs)

tests_net_conn_duplex_test_SOURCES = tests/net/conn_duplex_test.c $(conn_support)
tests_net_conn_duplex_test_CFLAGS = $(net_test_cflags)
tests_net_conn_duplex_test_LDADD = $(net_test_libs)

tests_net_conn_slots_test_SOURCES = tests/net/conn_slots_test.c $(conn_support)
tests_net_conn_slots_test_CFLAGS = $(net_test_cflags)
tests_net_conn_slots_test_LDADD = $(net_test_libs)

tests_net_conn_end_test_SOURCES = tests/net/conn_end_test.c $(conn_support)
tests_net_conn_end_test_CFLAGS = $(net_test_cflags)
tests_net_conn_end_test_LDADD = $(net_test_libs)

tests_net_conn_limits_test_SOURCES = tests/net/conn_limits_test.c $(conn_support)
tests_net_conn_limits_test_CFLAGS = $(net_test_cflags)
tests_net_conn_limits_test_LDADD = $(net_test_libs)

tests_net_conn_test_SOURCES = tests/net/conn_test.c $(conn_support)
tests_net_conn_test_CFLAGS = $(net_test_cflags)
tests_net_conn_test_LDADD = $(net_test_libs)

tests_net_conn_ticket_test_SOURCES = tests/net/conn_ticket_test.c $(conn_support)
tests_net_conn_ticket_test_CFLAGS = $(net_test_cflags)
tests_net_conn_ticket_test_LDADD = $(net_test_libs)

tests_net_connector_client_test_SOURCES = tests/net/connector_client_test.c $(conn_support)
tests_net_connector_client_test_CFLAGS = $(net_test_cflags)
tests_net_connector_client_test_LDADD = $(net_test_libs)

tests_net_connector_test_SOURCES = tests/net/connector_test.c $(conn_support)
tests_net_connector_test_CFLAGS = $(net_test_cflags)
tests_net_connector_test_LDADD = $(net_test_libs)

tests_net_control_test_SOURCES = tests/net/control_test.c
tests_net_control_test_CFLAGS = $(net_test_cflags)
tests_net_control_test_LDADD = $(net_test_libs)

tests_net_listener_test_SOURCES = tests/net/listener_test.c
tests_net_listener_test_CFLAGS = $(net_test_cflags)
tests_net_listener_test_LDADD = $(net_test_libs)

tests_net_log_test_SOURCES = tests/net/log_test.c
tests_net_log_test_CFLAGS = $(net_test_cflags)
tests_net_log_test_LDADD = $(net_test_libs)

tests_net_filemark_test_SOURCES = tests/net/filemark_test.c
tests_net_filemark_test_CFLAGS = $(net_test_cflags)
tests_net_filemark_test_LDADD = $(net_test_libs)

tests_net_keeper_client_test_SOURCES = tests/net/keeper_client_test.c $(conn_support)
tests_net_keeper_client_test_CFLAGS = $(net_test_cflags)
tests_net_keeper_client_test_LDADD = $(net_test_libs)

keeper_support = tests/net/keeper_support.c tests/net/keeper_support.h \
	tests/keystore/support.c tests/keystore/support.h

tests_net_keeper_process_test_SOURCES = tests/net/keeper_process_test.c $(keeper_support)
tests_net_keeper_process_test_CFLAGS = $(net_test_cflags)
tests_net_keeper_process_test_LDADD = $(net_test_libs)

tests_net_keeper_test_SOURCES = tests/net/keeper_test.c $(keeper_support)
tests_net_keeper_test_CFLAGS = $(net_test_cflags)
tests_net_keeper_test_LDADD = $(net_test_libs)

tests_net_keeper_receipt_test_SOURCES = tests/net/keeper_receipt_test.c $(keeper_support) $(conn_support)
tests_net_keeper_receipt_test_CFLAGS = $(net_test_cflags)
tests_net_keeper_receipt_test_LDADD = $(net_test_libs)

tests_net_keeper_ticket_test_SOURCES = tests/net/keeper_ticket_test.c $(keeper_support) $(conn_support)
tests_net_keeper_ticket_test_CFLAGS = $(net_test_cflags)
tests_net_keeper_ticket_test_LDADD = $(net_test_libs)

tests_net_tickets_test_SOURCES = tests/net/tickets_test.c
tests_net_tickets_test_CFLAGS = $(net_test_cflags)
tests_net_tickets_test_LDADD = tests/core/libpair.la tests/support/libsupport.la $(net_test_libs)

tests_net_receipt_test_SOURCES = tests/net/receipt_test.c
tests_net_receipt_test_CFLAGS = $(net_test_cflags)
tests_net_receipt_test_LDADD = $(net_test_libs)

tests_net_keyqueue_test_SOURCES = tests/net/keyqueue_test.c
tests_net_keyqueue_test_CFLAGS = $(net_test_cflags)
tests_net_keyqueue_test_LDADD = $(net_test_libs)

tests_net_ratelimit_test_SOURCES = tests/net/ratelimit_test.c
tests_net_ratelimit_test_CFLAGS = $(net_test_cflags)
tests_net_ratelimit_test_LDADD = $(net_test_libs)

tests_net_sandbox_test_SOURCES = tests/net/sandbox_test.c
tests_net_sandbox_test_CFLAGS = $(net_test_cflags)
tests_net_sandbox_test_LDADD = $(net_test_libs)

tests_net_server_expiry_test_SOURCES = tests/net/server_expiry_test.c
tests_net_server_expiry_test_CFLAGS = $(net_test_cflags)
tests_net_server_expiry_test_LDADD = $(net_test_libs)

tests_net_registrar_client_test_SOURCES = tests/net/registrar_client_test.c $(conn_support)
tests_net_registrar_client_test_CFLAGS = $(net_test_cflags)
tests_net_registrar_client_test_LDADD = $(net_test_libs)

tests_net_registrar_process_test_SOURCES = tests/net/registrar_process_test.c
tests_net_registrar_process_test_CFLAGS = $(net_test_cflags)
tests_net_registrar_process_test_LDADD = $(net_test_libs)

tests_net_registrar_test_SOURCES = tests/net/registrar_test.c
tests_net_registrar_test_CFLAGS = $(net_test_cflags)
tests_net_registrar_test_LDADD = $(net_test_libs)

tests_net_ticket_keys_test_SOURCES = tests/net/ticket_keys_test.c
tests_net_ticket_keys_test_CFLAGS = $(net_test_cflags)
tests_net_ticket_keys_test_LDADD = $(net_test_libs)

tests_net_ticket_store_test_SOURCES = tests/net/ticket_store_test.c
tests_net_ticket_store_test_CFLAGS = $(net_test_cflags)
tests_net_ticket_store_test_LDADD = $(net_test_libs)

tests_net_supervisor_tickets_test_SOURCES = tests/net/supervisor_tickets_test.c
tests_net_supervisor_tickets_test_CFLAGS = $(net_test_cflags)
tests_net_supervisor_tickets_test_LDADD = $(net_test_libs)
