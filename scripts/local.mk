# SPDX-License-Identifier: Apache-2.0
EXTRA_DIST += scripts/autogen scripts/build scripts/check scripts/install-packages scripts/packages scripts/quickstart
