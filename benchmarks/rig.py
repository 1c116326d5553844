"""The engine under measurement: services and programs on an overlay of their own, and its events.

    with Rig() as rig:
        rig.function("add", replicas=1)
        rig.one_shot("sleep", ["sleep", "0.2"])
        rig.run("load.py", rig.full_name("add"), 16, 20)

What is compared has the same image, network, node and service settings, those that
`funker deploy` gives to a function: a one-shot service is a function's with another command.
All is on one node, whose clock then also stamps the events and what the programs tell, and a
container that only sleeps keeps the overlay up there: else every end of a lone replica would
tear it down and every start build it anew. Leaving the block removes everything.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import docker
import docker.errors
from docker.models.containers import Container

from funker.backends.swarm.engine import connect
from funker.backends.swarm.service import Surroundings, service_spec
from funker.images import builder
from funker.spec import FunctionSpec

#: The function, the callers and the bare programs, all in one image.
PROGRAMS = Path(__file__).parent / "programs"
ORIGINAL = "funker==0.0.1"
#: Where the original is in its image; on PYTHONPATH it comes before ours.
ORIGINAL_PATH = "/original"
TINI = ["/usr/bin/tini", "--"]
#: Seconds for containers to come or go.
PATIENCE = 60.0


class Rig:
    """One benchmark's things in the engine that the environment names."""

    def __init__(self) -> None:
        self._suffix = secrets.token_hex(3)
        self._engine = connect()
        self._docker = self._engine.client
        self._api: Any = self._docker.api
        self._services: Any = self._docker.services
        self._cleanup = contextlib.ExitStack()
        self._node = str(self._engine.require_manager()["Swarm"]["NodeID"])
        self.events = Events(self.full_name(""))

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.callback(self._engine.close)
            stack.callback(self.events.close)
            self._image = builder.build(
                PROGRAMS,
                docker=self._docker,
                progress=lambda _: None,
                base=os.environ.get("FUNKER_BASE"),
            ).id
            self.network = self._docker.networks.create(
                self.full_name("net"), driver="overlay", attachable=True
            )
            stack.callback(self.network.remove)
            anchor = self._container(["sleep", "infinity"], {})
            stack.callback(anchor.remove, force=True)
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def full_name(self, name: str) -> str:
        """The name in the engine of what is called `name` here."""
        return f"bench-{self._suffix}-{name}"

    # Services

    def function(self, name: str, *, replicas: int) -> None:
        """Deploy the function of `programs` and wait until its containers run."""
        self._create(self._spec(name, replicas))

    def one_shot(
        self,
        name: str,
        command: Sequence[str],
        *,
        replicas: int = 0,
        image: str = "",
        env: Sequence[str] = (),
        delay: float = 0.0,
    ) -> None:
        """A service like the function's, but with this command; `delay` seconds to a restart."""
        spec = self._spec(name, replicas)
        container = spec["TaskTemplate"]["ContainerSpec"]
        container["Command"] = [*TINI, *command]
        container["Env"] += list(env)
        if image:
            container["Image"] = image
        spec["TaskTemplate"]["RestartPolicy"] = {"Condition": "any", "Delay": round(delay * 1e9)}
        self._create(spec)

    def scale(self, name: str, replicas: int) -> None:
        """Change the number of replicas. To 0: waits until all of them have ended."""
        service: Any = self._services.get(self.full_name(name))
        service.scale(replicas)
        if replicas == 0:
            until(lambda: not self.containers(name), f"the end of {name}")

    def containers(self, name: str) -> list[Container]:
        """The containers of a service that run."""
        label = f"com.docker.swarm.service.name={self.full_name(name)}"
        found: list[Container] = self._docker.containers.list(
            filters={"label": label}, ignore_removed=True
        )
        return found

    def original_image(self) -> str:
        """The image with the original funker on top, built if it isn't there."""
        recipe = (
            f"FROM {self._image}\nUSER root\n"
            f"RUN python3 -m pip install --no-cache-dir --target {ORIGINAL_PATH} {ORIGINAL}\n"
        )
        image, _ = self._docker.images.build(fileobj=io.BytesIO(recipe.encode()), rm=True)
        return str(image.id)

    # Programs

    def run(self, program: str, *arguments: object, original: str = "") -> Any:
        """Run one of `programs` on the overlay to its end; what it printed, as JSON.

        `original` is the image with the original funker, for the program to import that.
        """
        command = ["python3", f"/app/{program}", *map(str, arguments)]
        env = {"PYTHONPATH": ORIGINAL_PATH} if original else {}
        container = self._container(command, env, image=original)
        try:
            status = container.wait()["StatusCode"]
            if status != 0:
                words = container.logs().decode(errors="replace")
                raise RuntimeError(f"{program} ended with status {status}: {words}")
            return json.loads(container.logs(stdout=True, stderr=False))
        finally:
            container.remove(force=True)

    def _container(
        self, command: Sequence[str], env: dict[str, str], *, image: str = ""
    ) -> Container:
        started: Container = self._docker.containers.run(
            image or self._image,
            entrypoint=[*TINI, *command],
            environment=env,
            network=self.network.name,
            dns_opt=["ndots:1"],
            detach=True,
        )
        return started

    def _spec(self, name: str, replicas: int) -> dict[str, Any]:
        spec = FunctionSpec(name=self.full_name(name), image=self._image, replicas=replicas)
        networks = {str(self.network.name): str(self.network.id)}
        return service_spec(spec, Surroundings(networks=networks, node=self._node))

    def _create(self, spec: dict[str, Any]) -> None:
        created = self._api.create_service(
            spec["TaskTemplate"],
            name=spec["Name"],
            labels=spec["Labels"],
            mode=spec["Mode"],
            update_config=spec["UpdateConfig"],
            endpoint_spec=spec["EndpointSpec"],
        )
        self._cleanup.callback(self._remove, spec["Name"], created["ID"])

    def _remove(self, name: str, identity: str) -> None:
        self._api.remove_service(identity)
        label = f"com.docker.swarm.service.name={name}"
        until(
            lambda: not self._api.containers(filters={"label": label}, all=True),
            f"the end of {name}",
        )


class Events:
    """When containers of the rig's services started and ended, by the engine's clock."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._seen: list[tuple[str, str, float]] = []
        self._docker = docker.from_env()
        # A live stream: the engine remembers the last 256 events only, a few seconds' worth.
        self._stream = self._docker.api.events(
            filters={"type": "container", "event": ["start", "die"]}, decode=True
        )
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def starts(self, name: str) -> list[float]:
        """Unix times, in order, at which containers of the service `name` started."""
        return self._times("start", name)

    def ends(self, name: str) -> list[float]:
        """Unix times, in order, at which containers of the service `name` ended."""
        return self._times("die", name)

    def close(self) -> None:
        self._stream.close()
        self._thread.join()
        self._docker.close()

    def _times(self, kind: str, name: str) -> list[float]:
        wanted = (kind, self._prefix + name)
        return sorted(at for what, whose, at in list(self._seen) if (what, whose) == wanted)

    def _listen(self) -> None:
        for event in self._stream:
            service = event["Actor"]["Attributes"].get("com.docker.swarm.service.name", "")
            if service.startswith(self._prefix):
                self._seen.append((event["Action"], service, event["timeNano"] / 1e9))


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for what the engine doesn't announce. Raises `TimeoutError`."""
    give_up = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError(f"waited {PATIENCE:g} s in vain for {what}")
        time.sleep(0.1)
