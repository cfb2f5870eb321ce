# SPDX-License-Identifier: Apache-2.0
"""chaveirod.conf(5) describes exactly the keys of the configuration that `keyadmin init` writes."""
import re
import os

import chv


def keys_of_manual():
    section, found = None, set()
    for line in chv.read(os.path.join(chv.TOP_SRCDIR, "doc", "chaveirod.conf.5")).decode().splitlines():
        if line.startswith(".Ss Section Bq "):
            section = line.split()[-1]
        elif line.startswith(".Sh"):
            section = None
        elif section and line.startswith(".It Cm "):
            found.add(f"{section}.{line.split()[2]}")
    return found


def keys_of_template():
    with chv.Site() as site:
        site.init()
        section, found = None, set()
        for line in chv.read(site.config).decode().splitlines():
            heading = re.fullmatch(r'(?:# )?\[(\w+)(?: "\w+")?\]', line)
            setting = re.match(r"(?:# ?)?([a-z-]+) = ?", line)
            if heading:
                section = heading.group(1)
            elif setting:
                found.add(f"{section}.{setting.group(1)}")
        return found


def test_every_key_is_described_and_no_other():
    manual, template = keys_of_manual(), keys_of_template()
    chv.check(len(template) > 15, f"keys found in the file: {sorted(template)}")
    chv.check_equal(sorted(template - manual), [], "keys that the manual page does not have")
    chv.check_equal(sorted(manual - template), [], "keys that only the manual page has")


if __name__ == "__main__":
    chv.main()
