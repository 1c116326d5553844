"""The lab's network: a bridge on the host, and for each node a namespace plugged into it.

The host gets one bridge, one MASQUERADE rule, two FORWARD rules and ip_forward, nothing else:
whatever an engine does to its own interfaces and chains, it does in its own namespace.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from private_engine.commands import run, works
from private_engine.errors import LabError
from private_engine.state import Lab, Node

IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
#: What ip_forward was before the first lab of this machine. In /run: a reboot resets both.
IP_FORWARD_BEFORE = Path("/run/funker-lab/ip_forward")
INTERFACES = Path("/sys/class/net")
NAMESPACES = Path("/run/netns")
SLOTS = range(200)
#: Bytes: what a bridge and its links have by default.
MTU = 1500


def choose_slot() -> int:
    """The first slot that neither another lab nor a route of this machine uses."""
    routes = run("ip", "route", "show", "table", "all")
    for slot in SLOTS:
        if not (INTERFACES / f"funker{slot}").exists() and f"10.77.{slot}." not in routes:
            return slot
    raise LabError("no free subnet in 10.77.0.0/16 for the lab")


def make_bridge(lab: Lab) -> None:
    if not (INTERFACES / lab.bridge).exists():
        if not _bridges():
            IP_FORWARD_BEFORE.parent.mkdir(parents=True, exist_ok=True)
            IP_FORWARD_BEFORE.write_text(IP_FORWARD.read_text())
        run("ip", "link", "add", lab.bridge, "type", "bridge")
    run("ip", "address", "replace", f"{lab.gateway}/24", "dev", lab.bridge)
    run("ip", "link", "set", lab.bridge, "up")
    IP_FORWARD.write_text("1\n")
    for rule in _rules(lab):
        if not works("iptables", *rule.check):
            run("iptables", *rule.insert)


def remove_bridge(lab: Lab) -> None:
    for rule in _rules(lab):
        while works("iptables", *rule.delete):
            pass
    if (INTERFACES / lab.bridge).exists():
        run("ip", "link", "delete", lab.bridge)
    if not _bridges() and IP_FORWARD_BEFORE.exists():
        IP_FORWARD.write_text(IP_FORWARD_BEFORE.read_text())
        IP_FORWARD_BEFORE.unlink()
        IP_FORWARD_BEFORE.parent.rmdir()


def make_namespace(node: Node) -> None:
    """A namespace with `eth0` on the lab's bridge and a default route to the host."""
    remove_namespace(node)
    inside = ("ip", "-n", node.namespace)
    run("ip", "netns", "add", node.namespace)
    peer = ("peer", "name", "eth0", "netns", node.namespace)
    run("ip", "link", "add", node.link, "type", "veth", *peer)
    run("ip", "link", "set", node.link, "master", node.lab.bridge, "up")
    run(*inside, "link", "set", "lo", "up")
    run(*inside, "address", "add", f"{node.address}/24", "dev", "eth0")
    run(*inside, "link", "set", "eth0", "up")
    run(*inside, "route", "add", "default", "via", node.lab.gateway)


def remove_namespace(node: Node) -> None:
    if (INTERFACES / node.link).exists():
        run("ip", "link", "delete", node.link)
    if (NAMESPACES / node.namespace).exists():
        run("ip", "netns", "delete", node.namespace)


def outward_mtu() -> int:
    """The packet size in bytes that leaves the machine whole from the lab."""
    routes = json.loads(run("ip", "-json", "route", "show", "default") or "[]")
    sizes = [int((INTERFACES / route["dev"] / "mtu").read_text()) for route in routes]
    return min([MTU, *sizes])


def name_servers() -> list[str]:
    """The machine's IPv4 resolvers that can be reached from a namespace.

    A stub on the loopback (systemd-resolved) can't, so the file with its upstreams is read then.
    """
    for file in (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")):
        if not file.exists():
            continue
        lines = [line.split() for line in file.read_text().splitlines()]
        servers = [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]
        reachable = [server for server in servers if not re.match(r"127\.|.*:", server)]
        if reachable:
            return reachable
    return []


class _Rule:
    """One iptables rule in the three spellings that it is asked, made and removed with."""

    def __init__(self, table: str, chain: str, *match: str) -> None:
        self.check = ["-w", "-t", table, "-C", chain, *match]
        self.insert = ["-w", "-t", table, "-I", chain, *match]
        self.delete = ["-w", "-t", table, "-D", chain, *match]


def _rules(lab: Lab) -> list[_Rule]:
    outward = ("-s", lab.subnet, "!", "-d", lab.subnet, "-j", "MASQUERADE")
    return [
        _Rule("nat", "POSTROUTING", *outward),
        # Another engine on the machine sets FORWARD to DROP, and bridge-netfilter applies that
        # to traffic between nodes too: joins would time out.
        _Rule("filter", "FORWARD", "-i", lab.bridge, "-j", "ACCEPT"),
        _Rule("filter", "FORWARD", "-o", lab.bridge, "-j", "ACCEPT"),
    ]


def _bridges() -> list[Path]:
    """The bridges of all labs on this machine (nodes' links are named alike, with an n)."""
    return [path for path in INTERFACES.glob("funker*") if path.name[len("funker") :].isdigit()]
