# SPDX-License-Identifier: Apache-2.0
EXTRA_DIST += scripts/autogen scripts/check scripts/install-packages scripts/packages
