# SPDX-License-Identifier: Apache-2.0
# What runs inside a channel: server side and client side of each service.
noinst_LTLIBRARIES += services/libservices.la
services_libservices_la_SOURCES = \
	services/input.c \
	services/input.h \
	services/message.h \
	services/message_client.c \
	services/message_server.c \
	$(NULL)
services_libservices_la_CFLAGS = $(AM_CFLAGS) $(UV_CFLAGS)
