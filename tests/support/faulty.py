# SPDX-License-Identifier: Apache-2.0
"""A site whose keystore's module fails on demand: tests/support/pkcs11_fault.c in front of SoftHSM."""
import contextlib
import os

import chv
import softhsm

FOR_EVER = 1 << 40
LONG_PATH = 240  # wherever the tests are built: no error is cut by it

CKR = {"CKR_HOST_MEMORY": 0x02, "CKR_GENERAL_ERROR": 0x05, "CKR_FUNCTION_FAILED": 0x06, "CKR_DEVICE_ERROR": 0x30,
       "CKR_DEVICE_REMOVED": 0x32, "CKR_KEY_HANDLE_INVALID": 0x60, "CKR_PIN_LOCKED": 0xA4,
       "CKR_SESSION_HANDLE_INVALID": 0xB3, "CKR_TOKEN_NOT_PRESENT": 0xE0, "CKR_USER_NOT_LOGGED_IN": 0x101}
FLAGS = {"CKF_USER_PIN_FINAL_TRY": 0x20000, "CKF_USER_PIN_LOCKED": 0x40000, "CKF_SO_PIN_FINAL_TRY": 0x200000,
         "CKF_SO_PIN_LOCKED": 0x400000}


def fault_module():
    path = os.path.join(chv.TOP_BUILDDIR, "tests", "support", ".libs", "pkcs11_fault.so")
    chv.check(os.access(path, os.R_OK), f"{path} is not there: run make check there first")
    return "/." * (max(0, LONG_PATH - len(path)) // 2) + path


class FaultyTokens(softhsm.Tokens):
    """SoftHSM's tokens behind the module that fails; `module` is that one, `real` is SoftHSM."""

    def __init__(self, folder):
        super().__init__(folder)
        self.real, self.module = self.module, fault_module()
        self.orders = os.path.join(folder, "faults")
        os.mkdir(self.orders, 0o700)
        self.env.update(CHV_FAULT_MODULE=self.real, CHV_FAULT_FOLDER=self.orders)

    def fail(self, call, what="CKR_GENERAL_ERROR", first=1, times=FOR_EVER):
        """`times` calls in a row of this name ("any": of all), the `first` from now first; what: the answer, "short", "long".

        "after=CKR_...": the call is made, and this answered; "kill": the program is killed before it.
        """
        answer = what.removeprefix("after=")
        what = what.replace(answer, str(CKR.get(answer, answer)))
        self.forget_calls(call)
        self._write(call, f"{first} {times} {what}")

    def heal(self):
        """No call fails any more."""
        for name in os.listdir(self.orders):
            if not name.endswith(".calls") and name != "token-flags":
                os.unlink(os.path.join(self.orders, name))

    def calls(self, call):
        """How many calls of this name were made, since the last fault of it was ordered."""
        with contextlib.suppress(FileNotFoundError):
            return os.stat(os.path.join(self.orders, f"{call}.calls")).st_size
        return 0

    def forget_calls(self, call):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.orders, f"{call}.calls"))

    def set_flags(self, *names):
        """CKF_ names, said by the token besides its own."""
        self._write("token-flags", str(sum(FLAGS[name] for name in names)))

    def _write(self, name, text):
        os.rename(chv.write(os.path.join(self.orders, "new.calls"), text), os.path.join(self.orders, name))


class FaultySite(softhsm.TokenSite):
    def __init__(self, name="test-server", label="chaveiro"):
        super().__init__(name, label)
        os.rmdir(self.tokens.folder)
        self.tokens = FaultyTokens(self.folder)
        self.env = self.tokens.env

    def init(self, *extra, listen="127.0.0.1:0", code=0, uri=None):
        return super().init(*extra, listen=listen, code=code,
                            uri=uri or f"pkcs11:token={self.label}?module-path={self.tokens.module}")
