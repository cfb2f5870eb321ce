# SPDX-License-Identifier: Apache-2.0
EXTRA_DIST += doc/architecture.md doc/keystore-format.md doc/performance.md doc/protocol.md \
	doc/registry.md doc/security.md doc/tokens.md
dist_man_MANS += doc/chaveiro.1 doc/chaveirod.8 doc/chaveirod.conf.5

# It tells the folder of the system's configuration.
EXTRA_DIST += doc/keyadmin.1
man_MANS = doc/man/keyadmin.1
CLEANFILES += doc/man/keyadmin.1
doc/man/keyadmin.1: doc/keyadmin.1 Makefile
	$(AM_V_GEN)$(MKDIR_P) doc/man && sed -e 's|@sysconfdir[@]|$(sysconfdir)|g' $(srcdir)/doc/keyadmin.1 >$@.tmp && mv $@.tmp $@
