#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The registry's contract and faults on a PostgreSQL server of the test's own."""
import os

import chv
import postgres


def run(name, pg):
    done = chv.run(os.path.join(chv.TOP_BUILDDIR, "tests/registry", name), env=pg.env, code=None)
    print(done.stdout.decode(errors="replace"), flush=True)
    done.check_code(0)


def test_contract():
    with postgres.Cluster() as pg:
        for name in ("contract", "contract_tables", "audit_test", "writers"):
            run(name, pg)


def test_faults():
    with postgres.Cluster() as pg:
        run("postgresql_faults", pg)


if __name__ == "__main__":
    chv.main()
