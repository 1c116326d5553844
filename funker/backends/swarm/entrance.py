"""The way into the functions' network: the relay, in the anchor or a container of its own."""

from __future__ import annotations

from funker.backends.swarm import overlay, parts, report, surroundings
from funker.backends.swarm.anchor import open_anchored
from funker.backends.swarm.attached import RelayContainer
from funker.backends.swarm.engine import Engine
from funker.backends.swarm.relay import Relay, Stream
from funker.backends.swarm.report import Service


def open_relay(engine: Engine, service: Service | None) -> Relay:
    """A relay to this function, or to all on the network `funker`; to be closed.

    It goes through the router where the control plane's anchor can be the relay. Raises
    `NetworkUnusable` if the function can't be reached from outside, `ImageMissing` if nothing can
    be a relay, or another `BackendError`.
    """
    env = report.relay_env(service)
    with engine.errors():
        networks: list[overlay.Network] = engine.api.networks()
        # Whoever is on none that can be reached is told so, anchor or not.
        network = _network(service, networks)
        ours = {each["Id"] for each in networks if overlay.is_ours(each)}
        stream: Stream | None = open_anchored(engine, networks=ours & {network}, env=env)
        if stream is None:
            image = surroundings.relay_image(engine, service)
            stream = RelayContainer(engine, image=image, network=network, env=env)
    return Relay(stream)


def open_controller(engine: Engine) -> Relay:
    """A relay that may be asked for the router; to be closed.

    Raises `NoController` if there is no anchor here, or another `BackendError`.
    """
    engine.require_manager()
    with engine.errors():
        networks = [each["Id"] for each in engine.api.networks() if overlay.is_ours(each)]
    stream = open_anchored(engine, networks=networks, env={})
    if stream is None:
        raise parts.no_anchor(engine)
    return Relay(stream)


def _network(service: Service | None, networks: list[overlay.Network]) -> str:
    """The ID of the network of a relay. Raises `NetworkUnusable`."""
    if service is None:
        return overlay.ours(networks)
    return overlay.attachable_of(
        networks, report.networks(service), function=service["Spec"]["Name"]
    )
