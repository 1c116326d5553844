"""The life of a replica, as a pure state machine: events in, actions out, no clock, no sockets.

    BOOT ─loaded─► IDLE ─CALL─► RUNNING ─outcome─► HOLDING ─ACK, caller gone─► LEAVING ─► exit 0
      │              └───────────────────SIGTERM──────────────────────────────────┘
      └─can't load─► FAILED ─5 s, SIGTERM─► exit 1

Invariants:

- Every change of state is in this file; the front does what the actions say and nothing else.
- The worker is started at most once (`Start`), so the handler runs at most once.
- A call that this replica has accepted is answered by its id as long as the process lives:
  a repeated CALL repeats ACCEPT or the outcome and starts nothing.
- Whoever was told «idle» is told «not any more» (BYE) before the process ends, and has time to
  hear it: a CALL that crosses is certainly not accepted, and its caller knows.
- The router, where there is one, is a peer like any other but for three things: its outages don't
  cancel a call, since it comes back; it is told READY instead of asking with PING; and it hears
  ACCEPT only of a call that takes longer than `ACCEPT_S`.
- SIGTERM never interrupts a call: RUNNING and HOLDING end in LEAVING anyway.
"""

from __future__ import annotations

from enum import Enum

from funker.rpc.messages import (
    Accept,
    Ack,
    Busy,
    Bye,
    Call,
    Cancel,
    Error,
    Failed,
    Message,
    Output,
    Ping,
    Pong,
    Ready,
    Result,
)
from funker.rpc.records import Record

#: The router as a peer. (No peer of the listening socket has an empty routing id.)
ROUTER = b""

#: Seconds to load the handler. Longer is a hang: an import that waits for a server, say.
LOAD_S = 120.0
#: Seconds that a replica whose handler can't be loaded lingers, telling callers why. Then it
#: exits for a fresh try; the wait keeps a broken function from spinning in the engine.
FAILED_S = 5.0
#: Seconds for which an outcome that nobody has acknowledged is kept: those of the first second of
#: an outage of 30 s, and the time for router and callers to find one another again.
HOLD_S = 40.0
#: Seconds before a caller that disconnected is given up: it may reconnect and ask again.
GONE_S = 2.0
#: Seconds after which the router hears that a call runs. Of a shorter one it hears the outcome
#: alone: another message, passed on to the caller, would compete with it.
ACCEPT_S = 0.002
#: Seconds for which a worker that has answered waits before it ends, unless the answer has been
#: acknowledged by then: the end of a process keeps a processor busy that the answer needs.
RELEASE_S = 0.01
#: Seconds between signs of life to the caller. Sending them is also how a lost one is noticed.
BEAT_S = 0.5
#: Seconds for the peers that were told «idle» to acknowledge the BYE.
BYE_S = 0.3
#: Seconds for a worker that has answered, or was killed, to be gone; its output ends then.
DEATH_S = 1.0
#: Seconds after which a peer that was told «idle» won't call on the strength of it any more.
PROBE_S = 5.0


#: Seconds without a word from the router after which its name is looked up and dialled anew.
SILENCE_S = 2.0


class State(Enum):
    BOOT = "boot"
    IDLE = "idle"
    RUNNING = "running"
    HOLDING = "holding"
    LEAVING = "leaving"
    FAILED = "failed"


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
    """The worker has imported the handler and waits."""


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
    content_type: str
    body: bytes


class Raised(Record):
    """The handler raised, or returned what can't be sent."""

    message: str
    exception_type: str
    traceback: str


class Died(Record):
    """The worker is dead. `how`: «exited with status 3», «was killed by SIGABRT»."""

    how: str
    output_tail: str


class Terminate(Record):
    """SIGTERM or SIGINT."""


class Tick(Record):
    """Time has passed."""


Event = Loaded | LoadFailed | Received | Linked | Gone | Answered | Raised | Died | Terminate | Tick

# Actions: what the front is to do.


class Send(Record):
    peer: bytes
    message: Message


class Start(Record):
    """Give the call to the worker."""

    call: Call


class Release(Record):
    """Let the worker, who has answered, end."""


class Kill(Record):
    """Kill the worker and all that it started."""


class Relink(Record):
    """Drop the connection to the router and dial anew."""


class Exit(Record):
    status: int


Action = Send | Start | Release | Kill | Relink | Exit


class Replica:
    """One slot with one worker: `isolation: container`.

    `timeout` is the function's own, in seconds; `max_body` in bytes. Times are seconds on any
    one monotonic clock. `on` returns the actions in order; `wakeup` the time by which `on` wants
    a `Tick`. One that is `kept` has a process beside it that starts the next, at once or later
    as its past suggests: it needn't linger so that a broken function doesn't spin.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        timeout: float,
        max_body: int,
        now: float,
        kept: bool = False,
    ) -> None:
        self.state = State.BOOT
        self._identity = identity
        self._timeout = timeout
        self._max_body = max_body
        self._kept = kept
        self._status = 0  # to exit with
        self._actions: list[Action] = []
        self._load_by = now + LOAD_S
        self._failure = LoadFailed("", "")
        self._failed_until = 0.0
        # Peers that were told «idle», and when: they may be about to call.
        self._probed: dict[bytes, float] = {}
        self._worker_alive = True
        # The call that is running or held, its caller, and its clocks.
        self._call: Call | None = None
        self._caller = b""
        self._caller_gone_at: float | None = None
        self._started_at = 0.0
        self._overdue_at = 0.0
        self._overdue = Error(code="", message="")
        # When the router is to hear of the call that runs; infinity: it has.
        self._accept_at = float("inf")
        self._next_beat = 0.0
        # Why the call failed, known before the worker is dead; its last output then completes it.
        self._verdict: Error | None = None
        self._verdict_by = 0.0
        self._outcome: Result | Error | None = None
        self._hold_until = 0.0
        # When the worker that has answered is to end; infinity: it has been told, or needn't be.
        self._release_at = float("inf")
        self._leave_by = 0.0
        self._exit_by = 0.0
        # The router: whether it is there, its life, and when it was heard and is to be asked.
        self._linked = False
        self._epoch = ""
        self._stamp = 0
        self._router_heard_at = 0.0
        self._router_ping_at = 0.0

    def on(self, event: Event, now: float) -> list[Action]:
        self._actions = []
        match event:
            case Received(peer, message):
                self._on_message(peer, message, now)
            case Loaded() if self.state is State.BOOT:
                self.state = State.IDLE
                self._announce(now)
            case Linked():
                self._linked, self._router_heard_at = True, now
                self._announce(now)
                self._ping_router(now)
            case Gone(peer) if peer == ROUTER:
                self._linked = False
                self._probed.pop(ROUTER, None)
                self._accept_at = float("inf")  # back again, it hears what is held here
            case LoadFailed() if self.state is State.BOOT:
                self._fail(event, now)
            case Answered(content_type, body) if self._undecided:
                self._release_at = now + RELEASE_S
                self._finish(self._answer(content_type, body, now), now)
            case Raised(message, exception_type, traceback) if self._undecided:
                self._decide(
                    Error(
                        code="function_error",
                        message=message,
                        exception_type=exception_type,
                        traceback=traceback,
                    ),
                    now,
                )
            case Died(how, output_tail):
                self._on_death(how, output_tail, now)
            case Gone(peer):
                self._probed.pop(peer, None)
                if peer == self._caller and self._caller_gone_at is None:
                    self._caller_gone_at = now
            case Terminate():
                self._on_terminate(now)
            case _:
                pass
        self._on_time(now)
        return self._actions

    @property
    def failure(self) -> dict[str, str]:
        """Why the handler can't be loaded: `message` and `traceback`."""
        return {"message": self._failure.message, "traceback": self._failure.traceback}

    def wakeup(self) -> float:
        """When `on(Tick(), …)` is due at the latest."""
        due = self._due()
        return min(due, self._router_ping_at) if self._linked else due

    def _due(self) -> float:
        match self.state:
            case State.BOOT:
                return self._load_by
            case State.FAILED:
                return self._failed_until
            case State.RUNNING | State.HOLDING:
                due = [self._next_beat, self._accept_at, self._release_at]
                settled = self._verdict is not None and self.state is State.RUNNING
                if self._caller_gone_at is not None and not settled:
                    due.append(self._caller_gone_at + GONE_S)
                if self.state is State.HOLDING:
                    due.append(self._hold_until)
                else:
                    due.append(self._verdict_by if self._verdict else self._overdue_at)
                return min(due)
            case State.LEAVING:
                return min(self._leave_by, self._exit_by)
            case _:
                return float("inf")

    # Messages

    def _on_message(self, peer: bytes, message: Message, now: float) -> None:
        if peer == ROUTER:
            self._router_heard_at = now
        match message:
            case Pong() if peer == ROUTER:
                anew = not message.known or (self._epoch not in ("", message.epoch))
                self._epoch, self._stamp = message.epoch, message.stamp
                if anew:
                    self._announce(now)
            case Ping(number=number):
                if self.state is State.IDLE:
                    self._note_probe(peer, now)
                self._send(peer, self._pong(number))
            case Call():
                self._on_call(peer, message, now)
            case Ack(id=id, wait_ms=wait_ms):
                if id == self._identity.session:
                    self._probed.pop(peer, None)
                    if self.state is State.FAILED and wait_ms is not None:
                        self._failed_until = now + wait_ms / 1000
                elif self.state is State.HOLDING and self._call and id == self._call.id:
                    self._leave(now)
            case Cancel(id=id):
                if self._undecided and self._call and id == self._call.id:
                    self._condemn(Error(code="cancelled", message="the caller cancelled it"), now)
            case _:
                pass  # kinds for others; a replica that doesn't need them isn't hurt by them

    def _on_call(self, peer: bytes, call: Call, now: float) -> None:
        identity = self._identity
        if self._call is not None and call.id == self._call.id:
            self._caller, self._caller_gone_at = peer, None
            self._send(peer, self._outcome or self._accept())
        elif call.session != identity.session:
            # Meant for who had this address before: whatever else is wrong, it isn't ours to say.
            self._send(peer, Busy(id=call.id, session=identity.session))
        elif call.function not in identity.names:
            message = f"this replica serves {identity.function}, not {call.function}"
            self._refuse(peer, call, "function_not_found", message)
        elif self.state is State.FAILED:
            self._refuse(peer, call, "init_failed", self._failure.message, self._failure.traceback)
        elif self.state is not State.IDLE or (call.resend and call.body is None):
            # Without a body it only asks what became of it: nothing, here.
            self._send(peer, Busy(id=call.id, session=identity.session))
        elif call.deadline_ms == 0:
            self._refuse(peer, call, "deadline_exceeded", "its deadline had passed on arrival")
        elif call.body is not None and len(call.body) > self._max_body:
            message = f"the body has {len(call.body)} bytes, the limit is {self._max_body}"
            self._refuse(peer, call, "payload_too_large", message)
        else:
            self._accept_call(peer, call, now)

    def _accept_call(self, peer: bytes, call: Call, now: float) -> None:
        self.state = State.RUNNING
        self._call, self._caller = call, peer
        self._started_at = now
        self._next_beat = now + BEAT_S
        timeout, deadline = self._timeout, float("inf")
        if call.timeout_ms is not None:
            timeout = min(timeout, call.timeout_ms / 1000)
        if call.deadline_ms is not None:
            deadline = call.deadline_ms / 1000
        if deadline < timeout:
            self._overdue = Error(
                code="deadline_exceeded", message="the caller's deadline passed while it ran"
            )
        else:
            self._overdue = Error(
                code="function_timeout", message=f"ran longer than its time-out of {timeout:g} s"
            )
        self._overdue_at = now + min(timeout, deadline)
        # Before it is told: nobody can see the difference, and the telling takes time.
        self._actions.append(Start(call))
        if peer == ROUTER:
            self._accept_at = now + ACCEPT_S
            self._probed.pop(peer, None)  # READY has said that one call is all
        else:
            self._send(peer, self._accept())
            self._probed.pop(peer, None)  # the caller knows
        self._say_bye(now, held=(call.id,))

    def _refuse(
        self, peer: bytes, call: Call, code: str, message: str, traceback: str = ""
    ) -> None:
        error = Error(id=call.id, code=code, message=message, traceback=traceback, retry_safe=True)
        self._send(peer, self._signed(error))

    # The call's end

    @property
    def _undecided(self) -> bool:
        return self.state is State.RUNNING and self._verdict is None

    def _answer(self, content_type: str, body: bytes, now: float) -> Result | Error:
        assert self._call is not None
        if len(body) > self._max_body:
            message = f"the answer has {len(body)} bytes, the limit is {self._max_body}"
            return Error(id=self._call.id, code="payload_too_large", message=message)
        return Result(
            id=self._call.id,
            content_type=content_type,
            replica=self._identity.replica,
            times={"run": round((now - self._started_at) * 1000)},
            body=body,
        )

    def _decide(self, verdict: Error, now: float) -> None:
        """The call has failed; its worker is ending and may still have output."""
        self._verdict, self._verdict_by = verdict, now + DEATH_S

    def _condemn(self, verdict: Error, now: float) -> None:
        self._decide(verdict, now)
        self._actions.append(Kill())

    def _on_death(self, how: str, output_tail: str, now: float) -> None:
        self._worker_alive = False
        self._release_at = float("inf")
        if self.state is State.IDLE and self._kept:
            self._status = 1
            self._say_bye(now, held=())
            self._leave(now)
        elif self.state in (State.BOOT, State.IDLE):
            # An idle worker dies of a background thread or for lack of memory.
            self._fail(
                LoadFailed(f"the function's process {how} before any call", output_tail), now
            )
        elif self.state is not State.RUNNING:
            self._report_output(output_tail)
        else:
            verdict = self._verdict or Error(
                code="function_crashed", message=f"the function's process {how} before it answered"
            )
            self._finish(verdict.replace(output_tail=output_tail), now)

    def _finish(self, outcome: Result | Error, now: float) -> None:
        assert self._call is not None
        if isinstance(outcome, Error):
            outcome = self._signed(outcome.replace(id=self._call.id))
        self._outcome = outcome
        self._call = self._call.replace(body=None)
        self.state = State.HOLDING
        self._hold_until = now + HOLD_S
        self._accept_at = float("inf")
        self._send(self._caller, outcome)

    # Leaving

    def _on_terminate(self, now: float) -> None:
        match self.state:
            case State.BOOT:
                self._exit(0)
            case State.FAILED:
                self._exit(1)
            case State.IDLE:
                self._say_bye(now, held=())
                self._actions.append(Kill())
                self._leave(now)
            case _:
                pass

    def _fail(self, failure: LoadFailed, now: float) -> None:
        self._say_bye(now, held=())
        self.state = State.FAILED
        self._failure = failure
        self._failed_until = now + FAILED_S
        self._announce(now)

    def _leave(self, now: float) -> None:
        self.state = State.LEAVING
        self._exit_by = now + DEATH_S
        if self._release_at < float("inf"):
            self._release()

    def _release(self) -> None:
        self._release_at = float("inf")
        self._actions.append(Release())

    def _exit(self, status: int) -> None:
        self._actions.append(Exit(status))

    def _note_probe(self, peer: bytes, now: float) -> None:
        self._probed[peer] = now
        if len(self._probed) > 256:
            self._forget_probes(now)

    def _forget_probes(self, now: float) -> None:
        self._probed = {
            peer: at for peer, at in self._probed.items() if peer == ROUTER or now - at <= PROBE_S
        }

    def _say_bye(self, now: float, held: tuple[str, ...]) -> None:
        self._forget_probes(now)
        self._leave_by = now + BYE_S
        identity = self._identity
        for peer in self._probed:
            self._send(peer, Bye(replica=identity.replica, session=identity.session, held=held))

    # Time

    def _on_time(self, now: float) -> None:
        if self.state is State.BOOT and now >= self._load_by:
            self._actions.append(Kill())
            self._fail(LoadFailed(f"loading the handler took longer than {LOAD_S:g} s", ""), now)
        if self.state is State.FAILED and now >= self._failed_until:
            self._exit(1)
        if self._undecided and now >= self._overdue_at:
            self._condemn(self._overdue, now)
        gone = self._caller_gone_at is not None and now >= self._caller_gone_at + GONE_S
        if self._undecided and gone:
            self._condemn(Error(code="cancelled", message="its caller is gone"), now)
        if self._call and now >= self._accept_at:
            self._accept_at = float("inf")
            self._send(ROUTER, self._accept())
        if self.state is State.RUNNING and self._verdict and now >= self._verdict_by:
            self._finish(self._verdict, now)
        if self.state is State.HOLDING and (gone or now >= self._hold_until):
            self._leave(now)
        if now >= self._release_at:
            self._release()
        if self.state in (State.RUNNING, State.HOLDING) and now >= self._next_beat:
            self._next_beat = now + BEAT_S
            if self._caller_gone_at is None and self._caller != ROUTER:
                self._send(self._caller, self._pong(0))
        if self.state is State.LEAVING:
            heard = not self._probed or now >= self._leave_by
            ended = not self._worker_alive or now >= self._exit_by
            if heard and ended:
                self._exit(self._status)
            elif heard:
                self._probed.clear()
                self._leave_by = self._exit_by

        if self._linked and now >= self._router_heard_at + SILENCE_S:
            self._linked = False
            self._actions.append(Relink())
        elif self._linked and now >= self._router_ping_at:
            self._ping_router(now)

    # The router

    def _announce(self, now: float) -> None:
        """Tell the router, if there is one, who is here and what it holds."""
        identity = self._identity
        if not self._linked:
            return
        if self.state is State.FAILED:
            self._send(
                ROUTER,
                Failed(
                    function=identity.function,
                    replica=identity.replica,
                    version=identity.version,
                    session=identity.session,
                    message=self._failure.message,
                    traceback=self._failure.traceback,
                ),
            )
            return
        busy = self.state in (State.RUNNING, State.HOLDING)
        if self.state is not State.IDLE and not (busy and self._caller == ROUTER):
            return  # not ready yet, or with a direct caller: none of the router's business
        if not busy:
            self._probed[ROUTER] = now
        self._send(
            ROUTER,
            Ready(
                function=identity.function,
                replica=identity.replica,
                node=identity.node,
                version=identity.version,
                session=identity.session,
                free=0 if busy else 1,
                held=(self._call.id,) if busy and self._call else (),
                once=True,
            ),
        )
        if busy:  # a router that doesn't know it yet must not count on it for another call
            self._probed[ROUTER] = now
            self._accept_at = float("inf")
            self._say_bye(now, held=(self._call.id,) if self._call else ())

    def _ping_router(self, now: float) -> None:
        self._router_ping_at = now + BEAT_S
        self._send(ROUTER, Ping(number=0, echo=self._stamp))

    def _report_output(self, output_tail: str) -> None:
        """An error has brought its output along; an answer didn't wait for the end of it."""
        if self._caller == ROUTER and isinstance(self._outcome, Result) and output_tail:
            self._send(ROUTER, Output(id=self._outcome.id, text=output_tail))

    # What it says

    def _send(self, peer: bytes, message: Message) -> None:
        self._actions.append(Send(peer, message))

    def _accept(self) -> Accept:
        assert self._call is not None
        return Accept(id=self._call.id, replica=self._identity.replica)

    def _signed(self, error: Error) -> Error:
        return error.replace(function=self._identity.function, replica=self._identity.replica)

    def _pong(self, number: int) -> Pong:
        identity = self._identity
        failed = self.state is State.FAILED
        state = self.state if self.state in (State.BOOT, State.IDLE, State.FAILED) else None
        return Pong(
            number=number,
            function=identity.function,
            names=identity.names,
            replica=identity.replica,
            session=identity.session,
            state=state.value if state else "busy",
            message=self._failure.message if failed else "",
            traceback=self._failure.traceback if failed else "",
        )
