# SPDX-License-Identifier: Apache-2.0
"""A wall clock that tests set, for programs started with its environment: `with` its file it may be set while they run."""
import os
import struct

import chv

LIBRARY = os.path.join(chv.TOP_BUILDDIR, "tests/support/.libs/clock.so")


class Clock:
    def __init__(self, folder):
        self.file = chv.write(os.path.join(folder, "clock"), struct.pack("=q", 0))
        # AddressSanitizer wants to be the first library, but does without
        asan = [os.environ["ASAN_OPTIONS"]] if "ASAN_OPTIONS" in os.environ else []
        self.env = {"LD_PRELOAD": LIBRARY, "CHV_TEST_CLOCK": self.file,
                    "ASAN_OPTIONS": ":".join([*asan, "verify_asan_link_order=0"])}

    def shift(self, seconds):
        """From now on the clock is so many seconds ahead of the true one (behind it: negative)."""
        fd = os.open(self.file, os.O_WRONLY | os.O_CLOEXEC)
        os.pwrite(fd, struct.pack("=q", seconds), 0)
        os.close(fd)
