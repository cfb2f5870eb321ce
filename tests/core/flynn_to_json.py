#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Converts flynn/noise's vectors.txt (key=value, a blank line between vectors) to the JSON that noise-vectors reads.

usage: flynn_to_json.py VECTORS.TXT > VECTORS.JSON
"""
import json
import sys

try:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
except ImportError:
    sys.exit("flynn_to_json.py: python3-cryptography is missing: apt-get install python3-cryptography")


def public_key(private):
    key = X25519PrivateKey.from_private_bytes(bytes.fromhex(private)).public_key()
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw).hex()


def read_vectors(lines):
    vector = {}
    for line in lines:
        key, separator, value = line.strip().partition("=")
        if separator:
            vector[key] = value
        elif vector:
            yield vector
            vector = {}
    if vector:
        yield vector


def messages_of(vector, pattern):
    count = sum(key.startswith("msg_") and key.endswith("_payload") for key in vector)
    messages = [{"payload": vector[f"msg_{i}_payload"], "ciphertext": vector[f"msg_{i}_ciphertext"]}
                for i in range(count)]
    # The transport messages begin with the initiator's, always. After one or three handshake messages the responder's
    # turn comes first in the schema; a one-way handshake has no messages towards the initiator.
    if len(pattern) == 1:
        return messages[:2]
    if len(messages) == 5:
        messages[3], messages[4] = messages[4], messages[3]
    return messages


def convert(vector):
    pattern = vector["handshake"].split("_")[1].partition("psk")[0]
    psks = [vector["preshared_key"]] if "preshared_key" in vector else []
    result = {"protocol_name": vector["handshake"]}
    for side in ("init", "resp"):
        result[side + "_prologue"] = vector.get("prologue", "")
        result[side + "_psks"] = psks
        result[side + "_ephemeral"] = vector[f"gen_{side}_ephemeral"]
        if side + "_static" in vector:
            result[side + "_static"] = vector[side + "_static"]
    # Known beforehand: the initiator's key where the name begins with K, the responder's where it ends with K or the
    # pattern is one-way.
    if pattern[0] == "K":
        result["resp_remote_static"] = public_key(vector["init_static"])
    if pattern[-1] == "K" or len(pattern) == 1:
        result["init_remote_static"] = public_key(vector["resp_static"])
    result["messages"] = messages_of(vector, pattern)
    return result


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="ascii") as file:
        json.dump({"vectors": [convert(vector) for vector in read_vectors(file)]}, sys.stdout)


main()
