# SPDX-License-Identifier: Apache-2.0
# What packagers need: pkg-config file, export list, unit, completions.
pkgconfig_DATA = dist/libchaveiro.pc
EXTRA_DIST += dist/libchaveiro.sym
