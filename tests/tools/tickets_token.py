#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tickets of clients with identity keys, at a server whose own identity key is in a token: resumption asks for nothing."""
import chv
import faulty
import identityclient
import store
from identity_site import allow, line_of, new_key, serve_all, server_pub
from ticketclient import Asks, Comer

LOOKED_AT = ("C_Sign", "C_SignInit", "C_DeriveKey", "C_OpenSession", "C_FindObjectsInit", "C_Login")


class IdentityComer(Asks, identityclient.IdentityClient):
    """A full handshake with an identity key, and a wish for tickets."""


class TokenGate(faulty.FaultySite):
    """A site of all profiles, its keys in a token, and one client's identity key."""

    def __enter__(self):
        store.need()
        super().__enter__()
        self.init()
        serve_all(self)
        self.configure(workers="2")
        path = new_key(self, "cam1")
        self.static, self.public = identityclient.private_of(path), identityclient.public_bytes(server_pub(self))
        allow(self, line_of(path))
        self.start("-v")
        return self

    def full(self, profile, *credential):
        """A full handshake of this profile; the client that made it, with a ticket."""
        with IdentityComer(self, profile, self.static, self.public, *credential) as client:
            client.visit()
            return client

    def calls(self):
        return {call: self.tokens.calls(call) for call in LOOKED_AT}


def comes_back_without_calls(site, profile, *credential):
    client = site.full(profile, *credential)
    ticket, lineage, before = client.tickets[0], client.lineage(), site.calls()
    chv.check(before["C_DeriveKey"] > 0, "the full handshake derived nothing: the identity key is not in the token")
    for _ in range(10):
        again = Comer(site).come(ticket)
        chv.check_equal(again.lineage(), lineage, "lineage")
        ticket = again.tickets[0]
    site.server.wait_for(r"client 'cam1': opened service 'message' \(resumed\)", 10)
    chv.check_equal(site.calls(), before, "calls of ten resumed sessions")
    site.full(profile, *credential)
    chv.check(site.calls()["C_DeriveKey"] > before["C_DeriveKey"], "a full handshake derives")


def test_no_keystore_call_of_profile_key():
    with TokenGate() as site:
        comes_back_without_calls(site, identityclient.KEY)


def test_no_keystore_call_of_profile_key_psk():
    with TokenGate() as site:
        bound = site.add_client("cam1", extra=("--profile", "key+psk", "--identity", site.path("cam1.pub")))
        opened = store.Store(bound.path, store.passphrase_of(bound.passphrase_file))
        comes_back_without_calls(site, identityclient.KEY_PSK, opened.data["credential:1.1"], opened.keys["access:1.1"])


if __name__ == "__main__":
    chv.main()
