# SPDX-License-Identifier: Apache-2.0
# The protocol. No sockets, files, clock, threads or heap; no OpenSSL, no PKCS #11.
noinst_LTLIBRARIES += core/libcore.la
core_libcore_la_SOURCES = \
	core/channel.c \
	core/credential.c \
	core/credential.h \
	core/crypto.c \
	core/handshake.c \
	core/hkdf.c \
	core/hkdf.h \
	core/identity.c \
	core/identity.h \
	core/noise.c \
	core/noise.h \
	core/noise_name.c \
	core/noise_name.h \
	core/pattern.c \
	core/pattern.h \
	core/record.c \
	core/record.h \
	core/session.c \
	core/session.h \
	core/symmetric.c \
	core/symmetric.h \
	core/ticket.c \
	core/ticket.h \
	core/update.c \
	core/update.h \
	core/wire.c \
	core/wire.h \
	$(NULL)
