# SPDX-License-Identifier: Apache-2.0
"""Making tokens, when calls fail and when PINs are typed: what is said, and what is left of tokens and PIN files."""
import json
import os
import shutil

import chv
import faulty
from terminal import Terminal

UNAVAILABLE, NOPERM, CANTCREAT, NOINPUT = 69, 77, 73, 66
PIN, SO_PIN = "typed by a person", "an officer's own"


def labels(site):
    listed = json.loads(site.keyadmin("token", "list", "--module", site.tokens.module, "--json").stdout)
    return {token["label"]: token["flags"] for token in listed if token["initialised"]}


def failed(site, call, *arguments, code=UNAVAILABLE):
    """One line that names the call, the token and the answer."""
    done = site.keyadmin(*arguments, code=code)
    site.tokens.heal()
    chv.check_equal(done.stderr.count(b"\n"), 1, f"lines of {done.stderr}")
    for part in (call, 'token "chaveiro" in ', "CKR_FUNCTION_FAILED", "see the module's own log"):
        chv.check_in(part, done.stderr, "the error")
    return done.stderr


def init(site, *extra):
    return ["init", "--dir", site.store, "--name", site.name, "--keystore",
            f"pkcs11:token=chaveiro?module-path={site.tokens.module}", *extra]


def test_nothing_was_begun():
    with faulty.FaultySite() as site:
        site.tokens.fail("C_InitToken", "CKR_FUNCTION_FAILED")
        text = failed(site, "C_InitToken", *init(site))
        chv.check_not_in("begun", text, "the error")
        chv.check(not os.path.exists(site.store), "files were left")
        chv.check_equal(labels(site), {}, "tokens")
        site.init()


def test_a_token_was_begun():
    """It has the security officer's PIN: that is kept, and said so; what it lacks is said when it is used."""
    for call in ("C_OpenSession", "C_Login", "C_InitPIN"):
        with faulty.FaultySite() as site:
            site.tokens.fail(call, "CKR_FUNCTION_FAILED")
            text = failed(site, call, *init(site))
            pins = [os.path.join(site.store, f"chaveiro.{name}") for name in ("so-pin", "pin")]
            chv.check_in(f"was begun and stays, what was made for it is in {pins[0]} and {pins[1]}: remove it with the "
                         "module's own tool", text, "the error")
            chv.check_equal(sorted(os.listdir(site.store)), ["chaveiro.pin", "chaveiro.so-pin"], "files")
            chv.check_not_in("PIN set", labels(site)["chaveiro"], "flags")
            again = site.keyadmin(*init(site), code=None)
            chv.check(again.code != 0, "half a token is no keystore")
            chv.check_in("CKR_USER_PIN_NOT_INITIALIZED", again.stderr, "the second error")
            chv.check_in("security officer must set one", again.stderr, "the second error")
            # the token is removed, as SoftHSM's tool does it, and the PINs serve
            for name in site.tokens.labels():
                shutil.rmtree(os.path.join(site.tokens.folder, name))
            chv.check_in("give --pin-file or --so-pin-file", site.keyadmin(*init(site), code=CANTCREAT).stderr, "advice")
            site.keyadmin(*init(site, "--pin-file", pins[1], "--so-pin-file", pins[0]))
            chv.check_in("PIN set", labels(site)["chaveiro"], "flags")


def test_an_answer_was_lost():
    """C_InitToken did its work and said that it did not."""
    with faulty.FaultySite() as site:
        site.tokens.fail("C_InitToken", "after=CKR_FUNCTION_FAILED")
        text = failed(site, "C_InitToken", "token", "init", f"pkcs11:token=chaveiro?module-path={site.tokens.module}",
                      "--pin-file", site.path("pin"), "--so-pin-file", site.path("so"))
        chv.check_in(f"was begun and stays, what was made for it is in {site.path('so')} and {site.path('pin')}", text,
                     "the error")
        chv.check(os.path.exists(site.path("so")) and os.path.exists(site.path("pin")), "the PINs are kept")


def test_nobody_can_tell():
    """The module fails for good on the way: the PINs are kept, as the token may have them."""
    with faulty.FaultySite() as site:
        site.tokens.fail("C_InitPIN", "CKR_FUNCTION_FAILED")
        site.tokens.fail("C_GetSlotList", "CKR_DEVICE_REMOVED", first=1 + calls_before(site))
        text = failed(site, "C_InitPIN", *init(site))
        chv.check_in("may have been begun, what was made for it is in ", text, "the error")
        chv.check_equal(sorted(os.listdir(site.store)), ["chaveiro.pin", "chaveiro.so-pin"], "files")


def calls_before(site):
    """Of C_GetSlotList until C_InitPIN fails: counted in a run on tokens that are thrown away."""
    site.tokens.fail("C_InitPIN", "CKR_FUNCTION_FAILED")
    site.tokens.forget_calls("C_GetSlotList")
    site.keyadmin(*init(site), code=UNAVAILABLE)
    shutil.rmtree(site.store)
    for name in site.tokens.labels():
        shutil.rmtree(os.path.join(site.tokens.folder, name))
    return site.tokens.calls("C_GetSlotList") - 2  # one look afterwards: the number, and the slots


def test_the_officers_pin_is_not_tried_on_the_edge():
    for flag in ("CKF_SO_PIN_LOCKED", "CKF_SO_PIN_FINAL_TRY"):
        with faulty.FaultySite() as site:
            site.tokens.set_flags(flag)
            done = site.keyadmin(*init(site), code=NOPERM)
            for part in (flag, "nothing was tried", "was begun and stays", "module's own tool"):
                chv.check_in(part, done.stderr, "the error")
            chv.check_equal(site.tokens.calls("C_Login"), 0, "logins")
            chv.check(any("SO PIN" in words for words in labels(site)["chaveiro"]), "token list says it")


def test_later_failures_leave_the_token():
    """The token is made, its master is not: it stays with its PIN, and the next init uses it."""
    with faulty.FaultySite() as site:
        site.tokens.fail("C_GenerateKey", "CKR_FUNCTION_FAILED")
        done = site.keyadmin(*init(site), code=UNAVAILABLE)
        site.tokens.heal()
        chv.check_in("C_GenerateKey", done.stderr, "which call")
        chv.check_in("was made and stays, empty, its PIN in ", done.stderr, "what is left")
        site.init()
        chv.check_in("PIN set", labels(site)["chaveiro"], "flags")


# --- PINs typed -----------------------------------------------------------------------------------------------------------


def answer(terminal, prompt, text):
    terminal.expect(prompt)
    terminal.wait_echo(False)
    terminal.type(text + "\n")


def type_pins(terminal, label):
    for what, pin in ((f"New PIN of the security officer of token {label}", SO_PIN), (f"New PIN of token {label}", PIN)):
        answer(terminal, f"{what}: ", pin)
        answer(terminal, f"{what} again: ", pin)


def on_terminal(site, *arguments):
    return Terminal("keyadmin", *arguments, env=site.env)


def test_token_init_asks():
    with faulty.FaultySite() as site:
        uri = f"pkcs11:token=hsm?module-path={site.tokens.module}"
        with on_terminal(site, "token", "init", uri, "--ask-pin") as terminal:
            type_pins(terminal, "hsm")
            terminal.wait(0)
            chv.check_not_in(PIN, terminal.text, "the terminal")
            chv.check_not_in(SO_PIN, terminal.text, "the terminal")
        chv.check_in("PIN set", labels(site)["hsm"], "flags")
        site.keyadmin("check", uri, "--pin-fd", "0", stdin=PIN + "\n")
        site.keyadmin("check", uri, "--pin-fd", "0", stdin=SO_PIN + "\n", code=NOPERM)


def test_init_asks():
    with faulty.FaultySite() as site:
        with on_terminal(site, *init(site, "--ask-pin", "--listen", "127.0.0.1:0")) as terminal:
            type_pins(terminal, "chaveiro")
            answer(terminal, r"PIN of token chaveiro \(serial \w+\): ", PIN)  # to open what was made: nobody kept it
            terminal.wait(0)
        chv.check(not any("pin" in name for name in os.listdir(site.store)), "a PIN was kept")
        chv.check_not_in("pin-source", chv.read(site.config), "the configuration")


def test_typed_twice_and_different():
    with faulty.FaultySite() as site:
        uri = f"pkcs11:token=hsm?module-path={site.tokens.module}"
        with on_terminal(site, "token", "init", uri, "--ask-pin") as terminal:
            answer(terminal, "officer of token hsm: ", SO_PIN)
            answer(terminal, "officer of token hsm again: ", "another one")
            terminal.expect("the two answers differ: nothing was done")
            terminal.wait(NOINPUT)
        chv.check_equal(labels(site), {}, "tokens")


if __name__ == "__main__":
    chv.main()
