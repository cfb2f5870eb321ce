# SPDX-License-Identifier: Apache-2.0
# What packagers need: pkg-config file, export list, systemd units, completions.
pkgconfig_DATA = dist/libchaveiro.pc
EXTRA_DIST += dist/libchaveiro.sym dist/chaveirod.service.in dist/chaveirod-data.service.in dist/chaveiro-tunnel.service.in

systemdsystemunit_DATA = dist/chaveirod.service dist/chaveirod-data.service
CLEANFILES += dist/chaveirod.service dist/chaveirod-data.service
dist/chaveirod.service: dist/chaveirod.service.in Makefile
	$(AM_V_GEN)$(MKDIR_P) dist && sed -e 's|@sbindir[@]|$(sbindir)|g' -e 's|@sysconfdir[@]|$(sysconfdir)|g' \
		$(srcdir)/dist/chaveirod.service.in >$@.tmp && mv $@.tmp $@

dist/chaveirod-data.service: dist/chaveirod-data.service.in Makefile
	$(AM_V_GEN)$(MKDIR_P) dist && sed -e 's|@sbindir[@]|$(sbindir)|g' -e 's|@sysconfdir[@]|$(sysconfdir)|g' \
		$(srcdir)/dist/chaveirod-data.service.in >$@.tmp && mv $@.tmp $@

systemduserunit_DATA = dist/chaveiro-tunnel.service
CLEANFILES += dist/chaveiro-tunnel.service
dist/chaveiro-tunnel.service: dist/chaveiro-tunnel.service.in Makefile
	$(AM_V_GEN)$(MKDIR_P) dist && sed -e 's|@bindir[@]|$(bindir)|g' \
		$(srcdir)/dist/chaveiro-tunnel.service.in >$@.tmp && mv $@.tmp $@

dist_bashcompletion_DATA = \
	dist/completions/chaveiro \
	dist/completions/chaveirod \
	dist/completions/keyadmin \
	$(NULL)
