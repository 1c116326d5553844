"""The network on which callers and functions meet.

It is an attachable overlay with exactly the name `funker`, made by whoever comes first: a deploy
or the stack of `compose.yaml`. Its subnet is large, since every start of a replica takes an
address and gives one back a little later.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import docker.errors
from docker.types import IPAMConfig, IPAMPool

from funker.backends.base import NetworkUnusable, Progress, SubnetClash
from funker.backends.swarm.engine import Engine
from funker.spec import SpecError

NETWORK = "funker"
#: Of no default pool: Docker's overlays begin at 10.0.0.0, its bridges at 172.17.0.0.
DEFAULT_SUBNET = "10.213.0.0/16"
#: A stack of this name that declares the network finds it as its own, whoever made it.
STACK = "funker"

_STACK_LABEL = "com.docker.stack.namespace"
#: Where to look for a free /16 to suggest.
_CANDIDATES = [f"10.{second}.0.0/16" for second in (*range(213, 255), *range(100, 213))]

Network = dict[str, Any]


def parse_subnet(text: str | None) -> ipaddress.IPv4Network:
    """The IPv4 network that a user gave, or the default. Raises `SpecError`."""
    try:
        subnet = ipaddress.IPv4Network(text or DEFAULT_SUBNET)
    except ValueError as exc:
        raise SpecError("subnet", str(exc), hint=f"Write it like `{DEFAULT_SUBNET}`.") from exc
    if subnet.prefixlen > 24:
        raise SpecError(
            "subnet",
            f"{subnet} has {subnet.num_addresses} addresses, and replicas need many",
            hint=f"Give a /16, like `{DEFAULT_SUBNET}`.",
        )
    return subnet


class NetworkGone(NetworkUnusable):
    """Raised when a network that the engine still lists was removed from the swarm.

    A node keeps its part of a removed overlay until the last container has left it.
    """

    def __init__(self, identity: str) -> None:
        super().__init__(f"the network {identity} was removed meanwhile", hint="Deploy again.")
        self.identity = identity


def gone(error: docker.errors.APIError) -> NetworkGone | None:
    """What the swarm's refusal of a service says of its networks, if anything."""
    match = re.search(r"network (\w+) not found", str(error.explanation))
    return NetworkGone(match[1]) if match else None


def ensure(
    engine: Engine, *, subnet: str | None, progress: Progress, without: Collection[str] = ()
) -> str:
    """The ID of the network `funker`, made if it isn't there.

    `without` has IDs that don't count since they are gone. Raises `SubnetClash`,
    `NetworkUnusable` or another `BackendError`.
    """
    wanted = parse_subnet(subnet)
    with engine.errors():
        found = [network for network in _all(engine) if network["Id"] not in without]
        if (ours := named(found, NETWORK)) is not None:
            _check(ours)
            return str(ours["Id"])
        taken = [*_taken(found), *_addresses_of_nodes(engine)]
        _check_free(wanted, taken)
        progress(f"creating the network {NETWORK} ({wanted})")
        return _create(engine, wanted)


def named(networks: Sequence[Network], name: str) -> Network | None:
    """The network of this name, that of the swarm where an engine has one of the same name."""
    same = [network for network in networks if network["Name"] == name or network["Id"] == name]
    same.sort(key=lambda network: network.get("Scope") != "swarm")
    return same[0] if same else None


def is_ours(network: Network) -> bool:
    """Whether it is the swarm's network `funker`."""
    return bool(network["Name"] == NETWORK and network.get("Scope") == "swarm")


def is_attachable(network: Network) -> bool:
    """Whether a container of no service, like the relay, may join."""
    return bool(network.get("Driver") == "overlay" and network.get("Attachable"))


def ours(networks: Sequence[Network]) -> str:
    """The ID of the network `funker`. Raises `NetworkUnusable` if it isn't there or no good."""
    network = named(networks, NETWORK)
    if network is None:
        raise NetworkUnusable(
            f"there is no network {NETWORK} yet", hint="The first `funker deploy` makes it."
        )
    _check(network)
    return str(network["Id"])


def attachable_of(networks: Sequence[Network], identities: Sequence[str], *, function: str) -> str:
    """The ID of the network over which a relay reaches a function that is on these networks.

    That is `funker` if the function is on it. Raises `NetworkUnusable` if none is attachable.
    """
    joined = [network for network in networks if network["Id"] in identities]
    usable = [network for network in joined if is_attachable(network)]
    usable.sort(key=lambda network: (network["Name"] != NETWORK, identities.index(network["Id"])))
    if usable:
        return str(usable[0]["Id"])
    names = ", ".join(network["Name"] for network in joined) or "none"
    raise NetworkUnusable(
        f"{function} is on no network that can be reached from outside (it is on: {names})",
        hint=f"Add `networks: [{NETWORK}]` to the service, and at the end of its stack file "
        f"`networks: {{{NETWORK}: {{external: true}}}}`; or declare one of its own networks "
        "with `attachable: true`.",
    )


def _all(engine: Engine) -> list[Network]:
    networks: list[Network] = engine.api.networks()
    return networks


def _check(network: Network) -> None:
    if is_attachable(network):
        return
    what = "not attachable" if network.get("Driver") == "overlay" else "no overlay of the swarm"
    raise NetworkUnusable(
        f"there is a network {NETWORK}, but it is {what}",
        hint=f"Remove it (`docker network rm {NETWORK}`) and deploy again: that makes it anew.",
    )


def _create(engine: Engine, subnet: ipaddress.IPv4Network) -> str:
    try:
        made = engine.api.create_network(
            NETWORK,
            driver="overlay",
            attachable=True,
            scope="swarm",
            labels={_STACK_LABEL: STACK},
            ipam=IPAMConfig(pool_configs=[IPAMPool(subnet=str(subnet))]),
        )
        return str(made["Id"])
    except docker.errors.APIError as exc:
        words = str(exc.explanation)
        if "already exists" in words or "name conflicts" in words:  # two deploys at once
            if (ours := named(_all(engine), NETWORK)) is not None:
                _check(ours)
                return str(ours["Id"])
        elif "overlap" in words:
            raise _clash(subnet, "a network of another node", []) from exc
        raise


def _check_free(
    wanted: ipaddress.IPv4Network, taken: Sequence[tuple[ipaddress.IPv4Network, str]]
) -> None:
    for other, owner in taken:
        if wanted.overlaps(other):
            raise _clash(wanted, f"{owner} ({other})", [subnet for subnet, _ in taken])


def _clash(
    wanted: ipaddress.IPv4Network, owner: str, taken: Sequence[ipaddress.IPv4Network]
) -> SubnetClash:
    free = (ipaddress.IPv4Network(text) for text in _CANDIDATES)
    suggestion = next(
        (s for s in free if not s.overlaps(wanted) and not any(map(s.overlaps, taken))), None
    )
    like = f", like `--subnet {suggestion}`" if suggestion else ""
    return SubnetClash(
        f"the network {NETWORK} would have {wanted}, which overlaps with {owner}",
        hint=f"Choose another with --subnet or FUNKER_SUBNET{like}.",
    )


def _taken(networks: Sequence[Network]) -> Iterator[tuple[ipaddress.IPv4Network, str]]:
    for network in networks:
        for config in (network.get("IPAM") or {}).get("Config") or []:
            subnet = _network_or_none(str(config.get("Subnet") or ""))
            if subnet is not None:
                yield subnet, f"the network {network['Name']}"


def _addresses_of_nodes(engine: Engine) -> Iterator[tuple[ipaddress.IPv4Network, str]]:
    for node in engine.api.nodes():
        address = _network_or_none(str((node.get("Status") or {}).get("Addr") or ""))
        if address is not None and address.network_address != ipaddress.IPv4Address(0):
            name = (node.get("Description") or {}).get("Hostname") or node["ID"]
            yield address, f"the address of node {name}"


def _network_or_none(text: str) -> ipaddress.IPv4Network | None:
    try:
        return ipaddress.IPv4Network(text)
    except ValueError:
        return None  # IPv6, or not told
