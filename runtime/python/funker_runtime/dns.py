"""What the network's DNS calls this container.

The resolver library can't be asked: it finds the container's own address in /etc/hosts first,
where it has the container's ID beside it. So one PTR query (RFC 1035) goes to Docker's DNS server.
"""

from __future__ import annotations

import os
import socket
import struct

#: Where Docker's own DNS server listens in every container on a user-defined network.
SERVER = "127.0.0.11"
#: Seconds. It answers within a millisecond; a name that it must ask others for is none of ours.
PATIENCE_S = 1.0

_PTR, _IN = 12, 1
_RECURSION_DESIRED = 0x0100


def own_name() -> str:
    """This container's name: `service.slot.task.network`, or `container.network`.

    Empty where Docker's DNS isn't in use (the default bridge, no container at all).
    """
    try:
        with open("/etc/resolv.conf", encoding="utf-8") as file:
            if SERVER not in file.read():
                return ""
        return name_of(socket.gethostbyname(socket.gethostname()))
    except (OSError, UnicodeError):  # UnicodeError: a host name that DNS can't have
        return ""


def name_of(address: str, *, server: str = SERVER, port: int = 53) -> str:
    """The name of an IPv4 address; empty if it has none. Raises `OSError` (also on time-out)."""
    number = os.urandom(2)
    labels = [*reversed(address.split(".")), "in-addr", "arpa"]
    question = b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE_S)
        sock.connect((server, port))
        header = number + struct.pack(">5H", _RECURSION_DESIRED, 1, 0, 0, 0)
        sock.send(header + question + struct.pack(">2H", _PTR, _IN))
        answer = sock.recv(512)
    return _first_name(answer, skip=12 + len(question) + 4) if answer[:2] == number else ""


def _first_name(answer: bytes, skip: int) -> str:
    """The name in the first record behind the header and the question; empty if there is none."""
    try:
        if struct.unpack_from(">H", answer, 6)[0] == 0:
            return ""
        # The record's own name is a pointer to the question (2 bytes) or spelled out again.
        at = skip + 2 if answer[skip] >= 0xC0 else answer.index(b"\0", skip) + 1
        kind, _, _, _ = struct.unpack_from(">2HIH", answer, at)
        return _name(answer, at + 10) if kind == _PTR else ""
    except (IndexError, ValueError, struct.error):
        return ""


def _name(answer: bytes, at: int) -> str:
    labels: list[str] = []
    for _ in range(64):  # more than any name has, and an end to pointers that go in circles
        length = answer[at]
        if length == 0:
            break
        if length >= 0xC0:  # a pointer: the rest of the name is elsewhere
            at = struct.unpack_from(">H", answer, at)[0] & 0x3FFF
        else:
            labels.append(answer[at + 1 : at + 1 + length].decode("ascii", "replace"))
            at += 1 + length
    return ".".join(labels)
