# SPDX-License-Identifier: Apache-2.0
# The installed headers: the library's contracts.
pkginclude_HEADERS = \
	include/chaveiro/backend.h \
	include/chaveiro/error.h \
	include/chaveiro/keystore.h \
	include/chaveiro/session.h \
	$(NULL)
nodist_pkginclude_HEADERS = include/chaveiro/version.h
