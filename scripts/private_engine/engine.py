"""Start and end the lab's engines and their swarm."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from private_engine import api, base_image, network, permission, processes
from private_engine.commands import say
from private_engine.errors import LabError
from private_engine.state import BASE_IMAGE, CACHE, REGISTRY_PORT, Lab, Node, locked
from private_engine.surroundings import LABEL

#: Seconds; about two are usual.
PATIENCE = 60
SWARM_PORT = 2377

# In the engine's own mount namespace, so that what it mounts goes with it. /run is its own too:
# engines keep their locks and plugin sockets there. Not `ip netns exec`: that mounts /sys anew,
# and the engine then finds no cgroups.
START = """
set -e
hostname "$NODE_NAME"
mount --bind "$NODE_RUN" /run
exec dockerd "$@"
"""


def up(*, nodes: int = 1, private_engine: bool = False, temporary: bool = False) -> Lab:
    """Bring the lab to at least this many healthy nodes; leave what is healthy as it is.

    Raises NotPossible or NotAllowed where the machine isn't the lab's to change.
    """
    if not is_up(Lab.load(), nodes):
        permission.require(private_engine=private_engine)
    with locked():
        permission.ensure_commands(permission.ENGINE_PACKAGES)
        permission.ensure_commands(permission.CLIENT_PACKAGES)
        lab = Lab.load()
        lab.temporary = temporary and (lab.temporary or lab.slot is None)
        _bring_up(lab, nodes)
        lab.save()
        return lab


def down(*, purge: bool = False) -> None:
    """End everything that the lab started and remove everything that it made, but the cache."""
    with locked():
        lab = Lab.load()
        _take_down(lab)
        if purge and CACHE.exists():
            shutil.rmtree(CACHE)


def environment(lab: Lab) -> dict[str, str]:
    """What programs need to find it: the engine, the base image, every node's engine."""
    variables = {
        "DOCKER_HOST": lab.node(1).host,
        "FUNKER_BASE": BASE_IMAGE,
        "FUNKER_LAB_DIR": str(lab.directory),
        "FUNKER_LAB_NODES": " ".join(node.host for node in lab.nodes),
    }
    return {**variables, "FUNKER_LAB_REGISTRY": lab.registry_address} if lab.registry else variables


def restart(number: int) -> None:
    """Kill a node's engine and its containers, and start the engine on what it had stored."""
    with locked():
        node = Lab.load().node(number)
        processes.kill_node(node)
        for file in (node.directory / "dockerd.pid", *(node.directory / "exec").rglob("*.pid")):
            file.unlink(missing_ok=True)  # another process may have the number by now
        _launch(node)


def start_registry() -> Lab:
    """An image registry on the bridge, for images that several nodes need."""
    with locked():
        lab = Lab.load()
        if not processes.alive(lab.registry):
            _start_registry(lab)
        return lab


def _bring_up(lab: Lab, nodes: int) -> None:
    if lab.slot is not None and not is_up(lab):
        # Node 1 is the only manager: without it the rest of the swarm is of no use.
        _take_down(lab)
    if lab.slot is None:
        lab.slot = network.choose_slot()
        lab.save()
    network.make_bridge(lab)
    base_image.archive()
    wanted = max(nodes, *lab.engines, 1)
    for node in map(lab.node, range(1, wanted + 1)):
        if not healthy(node):
            _replace(node)
        base_image.provide(node)


def _take_down(lab: Lab) -> None:
    if lab.slot is not None and os.geteuid() != 0:
        raise LabError("taking the lab down needs root")
    if lab.registry:
        processes.kill([lab.registry])
    if lab.slot is not None:
        for node in lab.nodes:
            _end(node)
        network.remove_bridge(lab)
    shutil.rmtree(lab.directory / "registry", ignore_errors=True)
    lab.file.unlink(missing_ok=True)
    if lab.directory.exists() and not any(lab.directory.iterdir()):
        lab.directory.rmdir()
    lab.slot, lab.engines, lab.registry = None, {}, None


def _start_registry(lab: Lab) -> None:
    gateway = lab.gateway  # raises if the lab isn't up
    permission.ensure_commands({"docker-registry": "docker-registry"})
    data = lab.directory / "registry"
    data.mkdir(exist_ok=True)
    settings = data / "settings.yml"
    settings.write_text(
        "version: 0.1\n"
        f"storage: {{filesystem: {{rootdirectory: {data / 'images'}}}}}\n"
        f"http: {{addr: {gateway}:{REGISTRY_PORT}}}\n"
    )
    with (data / "log").open("wb") as log:
        started = subprocess.Popen(
            ["docker-registry", "serve", str(settings)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    lab.registry = processes.identify(started.pid)
    lab.save()
    until = time.monotonic() + PATIENCE
    while not _listens(gateway, REGISTRY_PORT):
        if started.poll() is not None or time.monotonic() > until:
            raise LabError(f"the registry doesn't start:\n{(data / 'log').read_text()}")
        time.sleep(0.05)


def is_up(lab: Lab, nodes: int = 1) -> bool:
    """Whether its first nodes are healthy, as many as asked for."""
    return lab.slot is not None and all(healthy(lab.node(n)) for n in range(1, nodes + 1))


def healthy(node: Node) -> bool:
    """Whether its engine runs and takes part in the swarm."""
    return (
        processes.alive(node.engine)
        and api.answers(node.socket)
        and bool(swarm_state(node) == "active")
    )


def swarm_state(node: Node) -> str:
    return str(api.get(node.socket, "/info")["Swarm"]["LocalNodeState"])


def _replace(node: Node) -> None:
    _forget(node)
    _start(node)
    _join(node)


def _start(node: Node) -> None:
    say(f"starting the engine of {node.name}")
    _end(node)
    # Recorded before it is made: `down` then looks for what is left of it after a crash here.
    node.lab.engines[node.number] = None
    node.lab.save()
    run_directory = node.directory / "run"
    run_directory.mkdir(parents=True)
    _write_resolvers(run_directory)
    network.make_namespace(node)
    _launch(node)


def _launch(node: Node) -> None:
    """The engine's process, in the node's namespace and directories."""
    enter = ("nsenter", f"--net={network.NAMESPACES / node.namespace}")
    apart = ("unshare", "--mount", "--uts", "--propagation", "private")
    environment = {
        **os.environ,
        processes.MARK: str(node.directory),
        "NODE_NAME": node.name,
        "NODE_RUN": str(node.directory / "run"),
    }
    with node.log.open("wb") as log:
        engine = subprocess.Popen(
            [*enter, *apart, "sh", "-c", START, "sh", *_options(node)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            # Ctrl-C in the terminal that started the lab isn't meant for its engines.
            start_new_session=True,
        )
    process = processes.identify(engine.pid)
    if process is None:
        raise LabError(f"the engine of {node.name} ended at once:\n{node.log.read_text()}")
    node.lab.engines[node.number] = process
    node.lab.save()
    _wait_until_up(node, engine)


def _options(node: Node) -> list[str]:
    return [
        f"--host={node.host}",
        f"--data-root={node.directory / 'data'}",
        f"--exec-root={node.directory / 'exec'}",
        f"--pidfile={node.directory / 'dockerd.pid'}",
        f"--label={LABEL}={node.lab.directory}",
        # Containers are found by their cgroup when the lab is taken down.
        "--exec-opt=native.cgroupdriver=cgroupfs",
        f"--cgroup-parent=/{node.cgroup}",
        f"--insecure-registry={node.lab.subnet}",
        f"--mtu={network.outward_mtu()}",
        *(f"--dns={server}" for server in network.name_servers()),
    ]


def _write_resolvers(run_directory: Path) -> None:
    """Where /etc/resolv.conf is a link into /run, the engine's own /run needs the file too."""
    target = Path("/etc/resolv.conf").resolve()
    if target.is_relative_to("/run"):
        file = run_directory / target.relative_to("/run")
        file.parent.mkdir(parents=True)
        file.write_text("".join(f"nameserver {server}\n" for server in network.name_servers()))


def _wait_until_up(node: Node, engine: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE
    while not api.answers(node.socket):
        ended = engine.poll() is not None
        if ended or time.monotonic() > until:
            log = node.log.read_text(errors="replace")[-3000:]
            raise LabError(
                f"the engine of {node.name} {'ended' if ended else 'does not answer'}; "
                f"the end of {node.log}:\n{log}"
            )
        time.sleep(0.05)


def _join(node: Node) -> None:
    """Node 1 makes the swarm, the others join it as workers."""
    listen = {
        "ListenAddr": f"{node.address}:{SWARM_PORT}",
        "AdvertiseAddr": f"{node.address}:{SWARM_PORT}",
    }
    if node.number == 1:
        api.request(node.socket, "POST", "/swarm/init", listen)
        return
    manager = node.lab.node(1)
    token = api.get(manager.socket, "/swarm")["JoinTokens"]["Worker"]
    join = {**listen, "JoinToken": token, "RemoteAddrs": [f"{manager.address}:{SWARM_PORT}"]}
    api.request(node.socket, "POST", "/swarm/join", join)


def _forget(node: Node) -> None:
    """Take a broken worker out of the swarm's list before it joins again under its name."""
    manager = node.lab.node(1)
    if node.number == 1 or not healthy(manager):
        return
    for member in api.get(manager.socket, "/nodes"):
        if member["Description"]["Hostname"] == node.name:
            api.request(manager.socket, "DELETE", f"/nodes/{member['ID']}", force="true")


def _end(node: Node) -> None:
    processes.kill_node(node)
    network.remove_namespace(node)
    if node.directory.exists():
        shutil.rmtree(node.directory)
    node.lab.engines.pop(node.number, None)


def _listens(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=5).close()
    except OSError:
        return False
    return True
