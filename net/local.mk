# SPDX-License-Identifier: Apache-2.0
# Event loop, connections, and the server's processes.
noinst_LTLIBRARIES += net/libnet.la
net_libnet_la_SOURCES = \
	net/allowlist.c \
	net/allowlist.h \
	net/allowlist_file.c \
	net/client_key.c \
	net/client_key.h \
	net/client_update.c \
	net/client_update.h \
	net/clients.c \
	net/clients.h \
	net/clockmark.c \
	net/clockmark.h \
	net/conn.c \
	net/conn.h \
	net/conn_internal.h \
	net/conn_read.c \
	net/conn_write.c \
	net/connect.c \
	net/control.c \
	net/control.h \
	net/deadline.c \
	net/ipc.c \
	net/ipc.h \
	net/filemark.c \
	net/filemark.h \
	net/keeper.c \
	net/keeper.h \
	net/keeper_client.c \
	net/keeper_client.h \
	net/keeper_client_update.c \
	net/keeper_internal.h \
	net/keeper_main.c \
	net/keeper_update.c \
	net/keeper_update.h \
	net/keycheck.c \
	net/keycheck.h \
	net/keyqueue.c \
	net/keyqueue.h \
	net/listener.c \
	net/listener.h \
	net/log.c \
	net/log.h \
	net/loop.c \
	net/loop.h \
	net/map.c \
	net/map.h \
	net/ratelimit.c \
	net/ratelimit.h \
	net/sandbox.c \
	net/sandbox.h \
	net/server.c \
	net/server.h \
	net/server_conn.c \
	net/server_expiry.c \
	net/server_expiry.h \
	net/server_internal.h \
	net/server_rights.c \
	net/server_update.c \
	net/server_update.h \
	net/service.c \
	net/service.h \
	net/source.c \
	net/source.h \
	net/supervisor.c \
	net/supervisor.h \
	net/supervisor_child.c \
	net/supervisor_config.c \
	net/supervisor_internal.h \
	net/text.c \
	net/text.h \
	$(NULL)
net_libnet_la_CFLAGS = $(AM_CFLAGS) $(UV_CFLAGS) $(CBOR_CFLAGS) $(SECCOMP_CFLAGS) $(SYSTEMD_CFLAGS)
net_libnet_la_LIBADD = $(UV_LIBS) $(CBOR_LIBS) $(SECCOMP_LIBS) $(SYSTEMD_LIBS)
