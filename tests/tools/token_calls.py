# SPDX-License-Identifier: Apache-2.0
"""Calls of the token's module fail under a running server: served by the retry or told 503, named in the log, mended."""
import time

import chv
import faulty

UNAVAILABLE = 69
CANNOT = ["CKR_DEVICE_REMOVED", "CKR_DEVICE_ERROR", "CKR_SESSION_HANDLE_INVALID", "CKR_USER_NOT_LOGGED_IN",
          "CKR_KEY_HANDLE_INVALID", "CKR_GENERAL_ERROR"]
# What to do, as the log says it (p11/error.c).
ADVICE = {"CKR_DEVICE_REMOVED": "put it back", "CKR_DEVICE_ERROR": "check device and cables",
          "CKR_SESSION_HANDLE_INVALID": "was the token taken out", "CKR_USER_NOT_LOGGED_IN": "give the PIN again",
          "CKR_KEY_HANDLE_INVALID": "was the token initialised again", "CKR_GENERAL_ERROR": "see its own log"}


class Serving(faulty.FaultySite):
    """A site that serves, with one client."""

    def __enter__(self):
        super().__enter__()
        self.init()
        self.start()
        self.key = self.add_client("cam1")
        self.send(self.key, "before")
        self.first = self.keeper()
        return self

    def refused(self):
        """503 for the client, and the server lives."""
        done = self.send(self.key, "x", "--retries", "0", code=UNAVAILABLE)
        chv.check_in("503", done.stderr, "what the client is told")
        chv.check(self.server.running(), "the server ended")

    def logged(self, act, *parts):
        """Acts until one line of the log has all parts: of many alike in a second the keeper shows a few."""
        mark, end = len(self.server.stderr), time.monotonic() + chv.DEADLINE
        while True:
            act()
            lines = self.server.stderr[mark:].decode().splitlines()
            if any(all(part in line for part in parts) for line in lines):
                return
            chv.check(time.monotonic() < end, f"{parts} never came: {lines[-3:]}")

    def named(self, call, rv, token=True):
        """Clients are refused, and the log says which call failed, in which token, with which answer, and what to do."""
        self.logged(self.refused, f"{call} with CKM_SHA256_HMAC:" if call == "C_Sign" else f" {call}:", rv, ADVICE[rv],
                    'token "chaveiro"' if token else "pkcs11_fault.so")

    def healed(self):
        """The same keeper serves again: no process was started again."""
        self.tokens.heal()
        self.send_until_served(self.key, "after")
        chv.check_equal(self.keeper(), self.first, "the keeper")


def test_calls_of_a_handshake():
    """
    One C_Sign for each client: no search, no session, no login, no look at the slots.  Beside it the original of a session
    copy derives when a second has gone by since the last time.
    """
    with Serving() as site:
        quiet = ("C_FindObjectsInit", "C_OpenSession", "C_Login", "C_GetSlotList", "C_GetTokenInfo", "C_CreateObject")
        before = {call: site.tokens.calls(call) for call in (*quiet, "C_Sign", "C_SignInit")}
        start = time.monotonic()
        for i in range(10):
            site.send(site.key, str(i))
        looks = int(time.monotonic() - start) + 1
        made = {call: site.tokens.calls(call) - n for call, n in before.items()}
        signs = made.pop("C_Sign")
        chv.check(10 <= signs <= 10 + looks, f"ten handshakes, {looks} looks at most: {signs} C_Sign")
        chv.check_equal(made, {**dict.fromkeys(quiet, 0), "C_SignInit": signs}, "calls of ten handshakes")


def test_one_failed_call_is_mended_unseen():
    with Serving() as site:
        def served():
            site.tokens.fail(call, rv, times=1)
            site.send(site.key, rv, "--retries", "0")
            chv.check(site.tokens.calls(call) > 1, f"{call} was made again")

        for rv in CANNOT:
            for call in ("C_Sign", "C_SignInit"):
                site.logged(served, 'token "chaveiro"', f"another session and login are tried after {rv}")
                site.tokens.heal()
        chv.check_equal(site.keeper(), site.first, "the keeper")


def test_every_sign_fails():
    with Serving() as site:
        for rv in CANNOT:
            site.tokens.fail("C_Sign", rv)
            site.named("C_Sign", rv)
            site.healed()


def test_the_nth_sign_fails():
    """Call 2, 3 and 4 after the fault began: whatever way back is being gone, it goes on or says 503."""
    with Serving() as site:
        for first in (2, 3, 4):
            site.tokens.fail("C_Sign", "CKR_DEVICE_REMOVED", first=first, times=3)
            for _ in range(8):
                done = site.send(site.key, "x", "--retries", "0", code=None)
                chv.check(done.code in (0, UNAVAILABLE), f"served or told: {done.stderr}")
            chv.check(site.tokens.calls("C_Sign") >= first + 3, "C_Sign failed three times")
            site.healed()


def test_wrong_lengths():
    """A token that gives 31 or 33 bytes is not believed, and is no reason to log in again."""
    with Serving() as site:
        for what, size in (("short", 31), ("long", 33)):
            logins = site.tokens.calls("C_Login")
            site.tokens.fail("C_Sign", what)
            site.logged(site.refused, f"C_Sign with CKM_SHA256_HMAC: gave {size} bytes, 32 are right")
            chv.check_equal(site.tokens.calls("C_Login"), logins, "logins")
            site.healed()


def reopen(call, rv, token=True):
    """What the way back needs fails as well: the log names it, and service is back when it works again."""
    with Serving() as site:
        site.tokens.fail("C_SignInit", "CKR_SESSION_HANDLE_INVALID")
        site.tokens.fail(call, rv)
        site.named(call, rv, token)
        site.healed()


def test_no_session_on_the_way_back():
    reopen("C_OpenSession", "CKR_DEVICE_REMOVED")
    reopen("C_OpenSession", "CKR_DEVICE_ERROR")


def test_no_login_on_the_way_back():
    reopen("C_Login", "CKR_DEVICE_REMOVED")
    reopen("C_Login", "CKR_GENERAL_ERROR")


def test_no_slots_on_the_way_back():
    reopen("C_GetSlotList", "CKR_DEVICE_ERROR", token=False)


def test_the_module_does_not_start_again():
    reopen("C_Initialize", "CKR_GENERAL_ERROR")


def test_no_key_on_the_way_back():
    reopen("C_FindObjectsInit", "CKR_USER_NOT_LOGGED_IN")
    reopen("C_FindObjects", "CKR_SESSION_HANDLE_INVALID")
    reopen("C_FindObjectsFinal", "CKR_GENERAL_ERROR")


def test_everything_fails_in_turn():
    """Each call from the first on, three in a row: no crash, no other answer than served and 503."""
    with Serving() as site:
        for first in range(1, 24, 2):
            site.tokens.fail("any", "CKR_DEVICE_ERROR", first=first, times=3)
            done = site.send(site.key, "x", "--retries", "0", code=None)
            chv.check(done.code in (0, UNAVAILABLE), f"served or told: {done.stderr}")
        site.healed()


def test_a_locked_pin_without_a_flag():
    """Some tokens say so at the try only: named, and not tried again."""
    with faulty.FaultySite() as site:
        site.init()
        site.tokens.fail("C_Login", "CKR_PIN_LOCKED")
        done = chv.run("chaveirod", "-c", site.config, env=site.env, code=77)
        chv.check_in("C_Login: CKR_PIN_LOCKED", done.stderr, "what is wrong")
        chv.check_in("security officer must set a new one", done.stderr, "what to do")
        chv.check_equal(site.tokens.calls("C_Login"), 1, "tries")


def test_a_pin_locked_while_serving():
    """The login is lost and the next one says so: tried once, and once more when the PIN file is another one."""
    with Serving() as site:
        site.tokens.fail("C_SignInit", "CKR_SESSION_HANDLE_INVALID", times=1)
        site.tokens.fail("C_Login", "CKR_PIN_LOCKED")
        site.logged(site.refused, 'token "chaveiro"', "C_Login: CKR_PIN_LOCKED", "security officer must set a new one")
        site.logged(site.refused, 'token "chaveiro"', "is not tried again before the file changes")
        chv.check_equal(site.tokens.calls("C_Login"), 1, "tries")
        site.tokens.heal()
        chv.write(site.pin_file, chv.read(site.pin_file))
        site.healed()


def test_flags_are_read_before_a_try():
    with faulty.FaultySite() as site:
        site.init()
        logins = site.tokens.calls("C_Login")
        for flag, advice in (("CKF_USER_PIN_LOCKED", "security officer must set a new one"),
                             ("CKF_USER_PIN_FINAL_TRY", "chaveiro-final-try=yes")):
            site.tokens.set_flags(flag)
            for done in (chv.run("chaveirod", "-c", site.config, env=site.env, code=77),
                         site.keyadmin("check", site.uri, code=77)):
                for part in (flag, advice, "nothing was tried"):
                    chv.check_in(part, done.stderr, "what is wrong")
        chv.check_equal(site.tokens.calls("C_Login"), logins, "tries")
        site.tokens.set_flags()
        site.keyadmin("check", site.uri)


def test_flags_are_read_before_another_login():
    """The session is lost and the PIN locked meanwhile: nothing is tried; unlocked, it is tried again."""
    with Serving() as site:
        logins = site.tokens.calls("C_Login")
        site.tokens.set_flags("CKF_USER_PIN_LOCKED")
        site.tokens.fail("C_SignInit", "CKR_SESSION_HANDLE_INVALID", times=1)
        site.logged(site.refused, 'token "chaveiro"', "CKF_USER_PIN_LOCKED", "security officer", "nothing was tried")
        chv.check_equal(site.tokens.calls("C_Login"), logins, "tries")
        site.tokens.set_flags()
        site.healed()
        chv.check_equal(site.tokens.calls("C_Login"), logins + 1, "tries")


if __name__ == "__main__":
    chv.main()
