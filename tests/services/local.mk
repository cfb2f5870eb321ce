# SPDX-License-Identifier: Apache-2.0
services_tests = \
	tests/services/client_key_test \
	tests/services/files_kill_test \
	tests/services/files_path_test \
	tests/services/files_queue_test \
	tests/services/files_session_test \
	tests/services/files_wire_test \
	tests/services/message_test \
	tests/services/message_tickets_test \
	tests/services/push_outbox_test \
	tests/services/push_session_test \
	tests/services/push_wire_test \
	tests/services/tunnel_pipe_test \
	tests/services/tunnel_server_test \
	$(NULL)
check_PROGRAMS += $(services_tests)
TESTS += $(services_tests)
message_support = tests/services/message_support.c tests/services/message_support.h

tests_services_client_key_test_SOURCES = tests/services/client_key_test.c $(message_support)
tests_services_client_key_test_CFLAGS = $(net_test_cflags)
tests_services_client_key_test_LDADD = services/libservices.la $(net_test_libs)

tests_services_files_kill_test_CFLAGS = $(net_test_cflags)
tests_services_files_kill_test_LDADD = services/libservices.la $(net_test_libs)
tests_services_files_path_test_CFLAGS = $(net_test_cflags)
tests_services_files_path_test_LDADD = services/libservices.la $(net_test_libs)
tests_services_files_queue_test_CFLAGS = $(net_test_cflags)
tests_services_files_queue_test_LDADD = services/libservices.la $(net_test_libs)
tests_services_files_session_test_CFLAGS = $(net_test_cflags)
tests_services_files_session_test_LDADD = services/libservices.la $(net_test_libs)
tests_services_files_wire_test_CFLAGS = $(net_test_cflags)
tests_services_files_wire_test_LDADD = services/libservices.la $(net_test_libs)

tests_services_message_test_SOURCES = tests/services/message_test.c $(message_support)
tests_services_message_test_CFLAGS = $(net_test_cflags)
tests_services_message_test_LDADD = services/libservices.la $(net_test_libs)

tests_services_message_tickets_test_SOURCES = tests/services/message_tickets_test.c tests/services/message_gate.c \
	tests/services/message_gate.h $(message_support)
tests_services_message_tickets_test_CFLAGS = $(net_test_cflags)
tests_services_message_tickets_test_LDADD = services/libservices.la $(net_test_libs)

push_support = tests/services/push_support.h
tests_services_push_outbox_test_SOURCES = tests/services/push_outbox_test.c $(push_support)
tests_services_push_outbox_test_CFLAGS = $(net_test_cflags)
tests_services_push_outbox_test_LDADD = services/libservices.la $(net_test_libs)
tests_services_push_session_test_SOURCES = tests/services/push_session_test.c $(push_support)
tests_services_push_session_test_CFLAGS = $(net_test_cflags)
tests_services_push_session_test_LDADD = services/libservices.la $(net_test_libs)
tests_services_push_wire_test_CFLAGS = $(net_test_cflags)
tests_services_push_wire_test_LDADD = services/libservices.la $(net_test_libs)

tests_services_tunnel_pipe_test_SOURCES = tests/services/tunnel_pipe_test.c $(conn_support)
tests_services_tunnel_pipe_test_CFLAGS = $(net_test_cflags)
tests_services_tunnel_pipe_test_LDADD = services/libservices.la $(net_test_libs)

tests_services_tunnel_server_test_SOURCES = tests/services/tunnel_server_test.c $(conn_support)
tests_services_tunnel_server_test_CFLAGS = $(net_test_cflags)
tests_services_tunnel_server_test_LDADD = services/libservices.la $(net_test_libs)
