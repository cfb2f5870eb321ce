# SPDX-License-Identifier: Apache-2.0
# Who the clients are: SQLite, PostgreSQL or a text file.  For the programs, not in the library.
noinst_LTLIBRARIES += registry/libregistry.la
registry_libregistry_la_SOURCES = \
	registry/audit.c \
	registry/client.c \
	registry/file.c \
	registry/internal.h \
	registry/mark.c \
	registry/postgresql.c \
	registry/registry.c \
	registry/registry.h \
	registry/revoked.c \
	registry/revoked_set.c \
	registry/sql.c \
	registry/sql.h \
	registry/sql_client.c \
	registry/sql_schema.h \
	registry/sql_text.c \
	registry/sqlite.c \
	$(NULL)
registry_libregistry_la_CFLAGS = $(AM_CFLAGS) $(SQLITE_CFLAGS) $(PQ_CFLAGS)
registry_libregistry_la_LIBADD = $(SQLITE_LIBS) $(PQ_LIBS)
