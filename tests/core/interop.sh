#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
exec "${PYTHON3:?}" "${top_srcdir:?}/tests/core/interop_dissononce.py"
