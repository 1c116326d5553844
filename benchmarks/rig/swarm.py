"""The engine under measurement: services and programs on an overlay of their own, and its events.

    with Rig() as rig:
        rig.function("add", replicas=1)
        rig.one_shot("sleep", ["sleep", "0.2"])
        rig.run("load.py", rig.full_name("add"), 16, 20)

Calls are direct, unless the function and the program are given a router:

        router = rig.router("router")
        rig.function("add", replicas=1, router=router)
        rig.run("load.py", rig.full_name("add"), 16, 20, router=router)

That one has no reconciler. Where functions are to scale, all is on the controller's own network:

    with Rig(controlled=True) as rig:
        rig.function("add", replicas=0, router=rig.controller, scale=ScalePolicy(min=0))

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import docker.errors
from docker.models.containers import Container

from benchmarks.rig import controller
from benchmarks.rig.controller import Router
from benchmarks.rig.events import Events, until
from funker.backends.base import Controller as Asking
from funker.backends.swarm.backend import Swarm
from funker.backends.swarm.engine import connect
from funker.backends.swarm.overlay import NETWORK
from funker.backends.swarm.service import Surroundings, service_spec
from funker.images import builder
from funker.rpc.keys import ROUTER_NAME
from funker.spec import FunctionSpec, Secret

#: The function, the callers and the bare programs, all in one image.
PROGRAMS = Path(__file__).parent.parent / "programs"
ORIGINAL = "funker==0.0.1"
#: Where the original is in its image; on PYTHONPATH it comes before ours.
ORIGINAL_PATH = "/original"
TINI = ["/usr/bin/tini", "--"]
#: Where the image has the programs.
APP = "/app"
#: The secret's name in the containers, which is where replicas look for it.
KEY = "funker-client-key"


class Rig:
    """One benchmark's things in the engine that the environment names."""

    def __init__(self, *, controlled: bool = False) -> None:
        """With a controller of the engine, brought up if there is none, if it is `controlled`."""
        self._controlled = controlled
        #: The engine's own router, as callers and functions know it.
        self.controller = Router(ROUTER_NAME)
        self._suffix = secrets.token_hex(3)
        self._engine = connect()
        self._backend = Swarm(self._engine)
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
            if self._controlled:
                self.controller = stack.enter_context(controller.brought_up(self._engine))
                (self.network,) = self._docker.networks.list(names=[NETWORK])
            else:
                self.network = self._docker.networks.create(
                    self.full_name("net"), driver="overlay", attachable=True
                )
                stack.callback(self.network.remove)
            self._cleanup = stack
            self._stand("anchor", ["sleep", "infinity"])
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def full_name(self, name: str) -> str:
        """The name in the engine of what is called `name` here."""
        return f"bench-{self._suffix}-{name}"

    # The way to the replicas

    def router(self, name: str, *, secure: bool = True) -> Router:
        """A router of our own; one that hears everybody if it isn't to be `secure`."""
        command = ["python3", "-m", controller.ROUTER]
        image = controller.router_image(self._docker, self._image)
        return self._router(name, command, image=image, secure=secure)

    def forwarder(self, name: str, *, secure: bool = True) -> Router:
        """What a router costs at the least, to stand in its place: see `forwarder.py`."""
        return self._router(name, ["python3", f"{APP}/forwarder.py"], image="", secure=secure)

    def _router(self, name: str, command: Sequence[str], *, image: str, secure: bool) -> Router:
        host = self.full_name(name)
        if not secure:
            self._stand(name, command, image=image, env={"FUNKER_INSECURE": "1"})
            return Router(host)
        keys = controller.new_keys()
        file = f"{APP}/router.key"
        env = {"FUNKER_ROUTER_KEY_FILE": file}
        self._stand(name, command, image=image, env=env, files={file: keys.router})
        secret = self._api.create_secret(host, keys.client)["ID"]
        self._cleanup.callback(self._api.remove_secret, secret)
        return Router(host, keys.client, secret)

    # Services

    def function(
        self, name: str, *, replicas: int, router: Router | None = None, **settings: Any
    ) -> None:
        """Deploy the function of `programs`: the engine starts its containers from now on.

        `settings` are of its spec, such as `scale` or `isolation`.
        """
        self._create(self._spec(name, replicas, router, **settings))

    def one_shot(
        self,
        name: str,
        command: Sequence[str],
        *,
        replicas: int = 0,
        image: str = "",
        env: Sequence[str] = (),
        delay: float = 0.0,
        router: Router | None = None,
    ) -> None:
        """A service like the function's, but with this command; `delay` seconds to a restart."""
        spec = self._spec(name, replicas, router)
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

    def remove(self, name: str) -> None:
        """Take a service away before the end of all; waits until its containers are gone."""
        self._remove(self.full_name(name), self.full_name(name))

    def known(self, name: str) -> dict[str, Any]:
        """What the controller knows of a function: its part of the router's status."""
        with self._backend.controller() as asking:
            return self._known(asking, name)

    @contextlib.contextmanager
    def watching(self, name: str) -> Iterator[Callable[[], dict[str, Any]]]:
        """The same for as often as one likes, without a new way to the controller each time."""
        with self._backend.controller() as asking:
            yield lambda: self._known(asking, name)

    def _known(self, asking: Asking, name: str) -> dict[str, Any]:
        known: dict[str, Any] = asking.query("status")["functions"].get(self.full_name(name), {})
        return known

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

    def run(
        self, program: str, *arguments: object, router: Router | None = None, original: str = ""
    ) -> Any:
        """Run one of `programs` on the overlay to its end; what it printed, as JSON.

        `original` is the image with the original funker, for the program to import that.
        """
        env, files = (router.environment, router.files) if router else ({}, {})
        if original:
            env["PYTHONPATH"] = ORIGINAL_PATH
        return self.run_with(program, *arguments, image=original, env=env, files=files)

    def run_with(
        self,
        program: str,
        *arguments: object,
        image: str = "",
        env: Mapping[str, str] | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> Any:
        """As `run`, with variables and files (contents by absolute path) of one's choice."""
        command = ["python3", f"{APP}/{program}", *map(str, arguments)]
        container = self._container(command, image=image, env=env, files=files)
        try:
            container.start()
            status = container.wait()["StatusCode"]
            if status != 0:
                words = container.logs().decode(errors="replace")
                raise RuntimeError(f"{program} ended with status {status}: {words}")
            return json.loads(container.logs(stdout=True, stderr=False))
        finally:
            container.remove(force=True)

    def _stand(
        self,
        name: str,
        command: Sequence[str],
        *,
        image: str = "",
        env: Mapping[str, str] | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        """Have a container of this name on the overlay until the end."""
        container = self._container(command, name=name, image=image, env=env, files=files)
        self._cleanup.callback(container.remove, force=True)
        container.start()

    def _container(
        self,
        command: Sequence[str],
        *,
        name: str = "",
        image: str = "",
        env: Mapping[str, str] | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> Container:
        created: Container = self._docker.containers.create(
            image or self._image,
            name=self.full_name(name) if name else None,
            entrypoint=[*TINI, *command],
            environment=dict(env or {}),
            network=self.network.name,
            dns_opt=["ndots:1"],
        )
        if files:
            created.put_archive("/", controller.archive(files))
        return created

    def _spec(
        self, name: str, replicas: int, router: Router | None = None, **settings: Any
    ) -> dict[str, Any]:
        spec = FunctionSpec(
            name=self.full_name(name),
            image=self._image,
            replicas=replicas,
            env={"FUNKER_ROUTER": router.address} if router else {},
            secrets=(Secret(source=router.known_as, target=KEY),) if router and router.key else (),
            **settings,
        )
        around = Surroundings(
            networks={str(self.network.name): str(self.network.id)},
            secrets={router.known_as: router.secret} if router else {},
            node=self._node,
        )
        return service_spec(spec, around)

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
        with contextlib.suppress(docker.errors.NotFound):  # it was removed before
            self._api.remove_service(identity)
        label = f"com.docker.swarm.service.name={name}"
        until(
            lambda: not self._api.containers(filters={"label": label}, all=True),
            f"the end of {name}",
        )
