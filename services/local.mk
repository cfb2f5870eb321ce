# SPDX-License-Identifier: Apache-2.0
# What runs inside a channel: server side and client side of each service.
noinst_LTLIBRARIES += services/libservices.la
services_libservices_la_SOURCES = \
	services/files.h \
	services/files_client.c \
	services/files_digest.c \
	services/files_digest.h \
	services/files_group.c \
	services/files_home.c \
	services/files_home.h \
	services/files_out.c \
	services/files_out.h \
	services/files_part.c \
	services/files_part.h \
	services/files_path.c \
	services/files_path.h \
	services/files_place.c \
	services/files_put.c \
	services/files_queue.c \
	services/files_queue.h \
	services/files_receipt.c \
	services/files_server.c \
	services/files_session.c \
	services/files_session.h \
	services/files_session_internal.h \
	services/files_stream.c \
	services/files_wire.c \
	services/files_wire.h \
	services/input.c \
	services/input.h \
	services/message.h \
	services/message_client.c \
	services/message_connect.c \
	services/message_internal.h \
	services/message_server.c \
	services/push.h \
	services/push_claims.c \
	services/push_claims.h \
	services/push_outbox.c \
	services/push_outbox.h \
	services/push_outbox_internal.h \
	services/push_server.c \
	services/push_session.c \
	services/push_session.h \
	services/push_spool.c \
	services/push_wire.c \
	services/push_wire.h \
	services/scopes.c \
	services/scopes.h \
	services/tunnel.h \
	services/tunnel_pipe.c \
	services/tunnel_pipe.h \
	services/tunnel_server.c \
	$(NULL)
services_libservices_la_CFLAGS = $(AM_CFLAGS) $(UV_CFLAGS) $(CRYPTO_CFLAGS)
