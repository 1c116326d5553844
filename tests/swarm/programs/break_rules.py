"""Breaks the protocol's rules at each replica of a function, and prints what they say to it.

Run inside a container, with the function's name as JSON. Prints a list with an object for each
replica: its state before and after, whether it is still the same one, and its answers.
"""

from __future__ import annotations

import json
import os
import socket
import sys

import zmq

from funker.rpc.messages import Message, Ping, decode, encode

PORT = 5570
#: Seconds for anything to be answered.
PATIENCE = 10

name = json.loads(sys.argv[1])
context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()

FRAMES = {
    "no frames of ours": [b"hello"],
    "one frame": [b"CALL"],
    "four frames": [b"CALL", b"{}", b"", b""],
    "an unknown kind": [b"SHOUT", b"{}"],
    "a header that isn't JSON": [b"CALL", b"{"],
    "a header that isn't an object": [b"CALL", b"[]"],
    "a header that lacks fields": [b"CALL", b"{}"],
    "a field of the wrong type": [b"CALL", json.dumps({"id": 7, "function": name}).encode()],
    "a huge header": [b"CALL", b'{"id": "' + b"0" * 70000 + b'"}'],
    "a body where none belongs": [b"PING", b'{"number": 1}', b"body"],
    "random bytes": [os.urandom(20), os.urandom(200)],
}
BYTES = [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", os.urandom(4096)]


def main() -> None:
    found = socket.getaddrinfo(name, PORT, socket.AF_INET)
    print(json.dumps([broken_at(address) for address in {info[4][0] for info in found}]))


def broken_at(address: object) -> dict[str, object]:
    dealer = connected(address)
    before = ask(dealer, encode(Ping(number=1, function=name)))
    answers = {way: ask(dealer, frames) for way, frames in FRAMES.items()}
    for noise in BYTES:
        with socket.create_connection((str(address), PORT), timeout=PATIENCE) as plain:
            plain.sendall(noise)
    flood(address)
    after = ask(dealer, encode(Ping(number=1, function=name)))
    return {
        "states": [before.state, after.state],
        "same": before.session == after.session,
        "answers": {way: [error.kind, error.code, error.id] for way, error in answers.items()},
    }


def flood(address: object) -> None:
    """Send a body far over the limit, and wait until the replica has hung up."""
    dealer = connected(address)
    ends = dealer.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    dealer.send_multipart([b"CALL", b"{}", bytes(20 * 1024 * 1024)])
    assert ends.poll(PATIENCE * 1000), "it takes everything"


def connected(address: object) -> zmq.Socket[bytes]:
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.RECONNECT_IVL, -1)
    dealer.setsockopt(zmq.LINGER, 0)
    dealer.connect(f"tcp://{address}:{PORT}")
    return dealer


def ask(dealer: zmq.Socket[bytes], frames: list[bytes]) -> Message:
    dealer.send_multipart(frames)
    assert dealer.poll(PATIENCE * 1000), f"no answer to {frames[0]!r}"
    return decode(dealer.recv_multipart())


main()
