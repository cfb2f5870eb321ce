# SPDX-License-Identifier: Apache-2.0
EXTRA_DIST += doc/architecture.md doc/protocol.md doc/security.md
