"""What a replica's state machine sees and what it wants done, and who the replica is. Only values.

`slot` is a slot's number, from 0; where each call has a container of its own there is but one.
"""

from __future__ import annotations

from funker.rpc.messages import Call, Message
from funker.rpc.records import Record

#: The router as a peer. (No peer of the listening socket has an empty routing id.)
ROUTER = b""


class Identity(Record):
    """Who a replica is. `names` are all names that callers may use; `session` is new each life."""

    function: str
    names: tuple[str, ...]
    replica: str
    session: str
    node: str = ""
    version: str = ""


# Events: what the front saw.


class Loaded(Record):
    """The slot's worker has the handler and waits. `residue`: how well traces are kept away."""

    slot: int = 0
    residue: str = ""


class LoadFailed(Record):
    message: str
    traceback: str


class Received(Record):
    peer: bytes
    message: Message


class Linked(Record):
    """A connection to the router stands."""


class Gone(Record):
    """A peer's connection is no more."""

    peer: bytes


class Answered(Record):
    """`size` is that of an answer which is too large to be here."""

    content_type: str
    body: bytes
    slot: int = 0
    size: int = 0


class Raised(Record):
    """The handler raised, or returned what can't be sent."""

    message: str
    exception_type: str
    traceback: str
    slot: int = 0


class Died(Record):
    """The slot's worker is dead. `how`: «exited with status 3», «was killed by SIGABRT»."""

    how: str
    output_tail: str
    slot: int = 0


class Barren(Record):
    """There will be no more workers: what makes them is dead. How it died, and its output."""

    how: str
    output_tail: str


class Terminate(Record):
    """SIGTERM or SIGINT."""


class Tick(Record):
    """Time has passed."""


Event = (
    Loaded
    | LoadFailed
    | Received
    | Linked
    | Gone
    | Answered
    | Raised
    | Died
    | Barren
    | Terminate
    | Tick
)

# Actions: what the front is to do.


class Send(Record):
    peer: bytes
    message: Message


class Start(Record):
    """Give the call to the slot's worker."""

    call: Call
    slot: int = 0


class Release(Record):
    """Let the worker, who has answered, end."""

    slot: int = 0


class Kill(Record):
    """Kill the worker and all that it started."""

    slot: int = 0


class Relink(Record):
    """Drop the connection to the router and dial anew."""


class Exit(Record):
    status: int


Action = Send | Start | Release | Kill | Relink | Exit
