# SPDX-License-Identifier: Apache-2.0
EXTRA_DIST += doc/architecture.md doc/keystore-format.md doc/protocol.md doc/registry.md doc/security.md doc/tokens.md
dist_man_MANS += doc/chaveiro.1 doc/chaveirod.8 doc/chaveirod.conf.5 doc/keyadmin.1
