"""The places for faults, and the seed: FUNKER_FAULT_SEED plays a campaign again.

FUNKER_FAULT_MINUTES makes campaigns longer, by hand.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator

import pytest

from funker.backends.base import BackendError
from funker.backends.swarm.engine import connect
from tests.faults.ground import Ground
from tests.faults.local_ground import LocalGround
from tests.faults.swarm_ground import NoLab, SwarmGround


@pytest.fixture(scope="session")
def seed() -> int:
    return int(os.environ.get("FUNKER_FAULT_SEED") or secrets.randbelow(1_000_000))


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Tell people, whether pytest captures output or not."""

    def tell(text: str) -> None:
        with capsys.disabled():
            print(text, flush=True)

    return tell


@pytest.fixture(params=["local", pytest.param("swarm", marks=pytest.mark.swarm)])
def ground(request: pytest.FixtureRequest) -> Ground:
    """Each place in turn."""
    found: Ground = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def function(request: pytest.FixtureRequest) -> Iterator[str]:
    """A name for a test's function, which is removed after it."""
    name = f"drill-{secrets.token_hex(3)}"
    yield name
    own = "ground" if "ground" in request.fixturenames else "local"
    ground: Ground = request.getfixturevalue(own)
    if name in {there.name for there in ground.backend.functions()}:
        ground.backend.remove(name)


@pytest.fixture(scope="session")
def local() -> Iterator[Ground]:
    ground = LocalGround()
    try:
        yield ground
    finally:
        ground.close()


@pytest.fixture(scope="session")
def swarm() -> Iterator[Ground]:
    """Only the lab's: on a user's machine nothing is killed."""
    reason = os.environ.get("FUNKER_NO_ENGINE", "")
    ground: Ground | None = None
    try:
        ground = None if reason else SwarmGround(connect())
    except (BackendError, NoLab) as error:
        reason = str(error)
    if reason and os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"no engine to test on: {reason}", pytrace=False)
    if ground is None:
        pytest.skip(f"no engine to test on: {reason}")
    try:
        yield ground
    finally:
        ground.close()
