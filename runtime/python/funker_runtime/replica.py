"""The life of a replica, as a pure state machine: events in, actions out, no clock, no sockets.

    BOOT ─loaded─► IDLE ─CALL─► RUNNING ─outcome─► HOLDING ─ACK, caller gone─► LEAVING ─► exit 0
      │              └───────────────────SIGTERM──────────────────────────────────┘
      └─can't load─► FAILED ─5 s, SIGTERM─► exit 1

It has slots, each for one call at a time (`slot.py`). With `once` there is one, which is used once:
a container for each call. Without, a slot is refilled with a fresh process after each call, and the
replica is IDLE as long as any slot is free; it goes from IDLE to RUNNING and back until SIGTERM.

Invariants:

- Every change of state is in this file and `slot.py`; the front does what the actions say and
  nothing else.
- A call that this replica has accepted is answered by its id as long as its outcome is kept: a
  repeated CALL repeats ACCEPT or the outcome and starts nothing.
- Whoever was told «idle» is told «not any more» (BYE) before the process ends, and has time to
  hear it: a CALL that crosses is certainly not accepted, and its caller knows.
- The router, where there is one, is a peer like any other but for three things: its outages don't
  cancel a call, since it comes back; it is told READY instead of asking with PING; and it hears
  ACCEPT only of a call that takes longer than `ACCEPT_S`.
- SIGTERM never interrupts a call: what runs and what is held ends first, then it is LEAVING.
"""

from __future__ import annotations

from enum import Enum

from funker.rpc.messages import (
    Ack,
    Call,
    Cancel,
    Error,
    Message,
    Output,
    Ping,
    Pong,
    Result,
)
from funker_runtime.events import (
    ROUTER,
    Action,
    Answered,
    Barren,
    Died,
    Event,
    Exit,
    Gone,
    Identity,
    Kill,
    Linked,
    Loaded,
    LoadFailed,
    Raised,
    Received,
    Send,
    Terminate,
)
from funker_runtime.slot import ACCEPT_S, BEAT_S, DEATH_S, HOLD_S, NEVER, Run, Slot, Worker
from funker_runtime.uplink import Uplink
from funker_runtime.voice import Voice

#: Seconds to load the handler. Longer is a hang: an import that waits for a server, say.
LOAD_S = 120.0
#: Seconds that a replica whose handler can't be loaded lingers, telling callers why. Then it
#: exits for a fresh try; the wait keeps a broken function from spinning in the engine.
FAILED_S = 5.0
#: Seconds after which a worker that dies while it waits is an accident, not a broken handler: the
#: replica makes room for the next at once, instead of telling callers for a while what is wrong.
STEADY_S = 1.0
#: Outcomes that are kept at once, unacknowledged; no more calls are taken meanwhile.
MAX_HELD = 256


class State(Enum):
    BOOT = "boot"
    IDLE = "idle"
    RUNNING = "running"
    HOLDING = "holding"
    LEAVING = "leaving"
    FAILED = "failed"


class Replica:
    """`slots` places for calls; `once`: a single call in all.

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
        slots: int = 1,
        once: bool = True,
    ) -> None:
        # BOOT, LEAVING, FAILED, or IDLE: in service, and `state` says how it is.
        self._stage = State.BOOT
        self._voice = Voice(identity)
        self._uplink = Uplink()
        self._timeout = timeout
        self._max_body = max_body
        self._kept = kept
        self._once = once
        self._residue = ""
        self._status = 0  # to exit with
        self._actions: list[Action] = []
        self._load_by = now + LOAD_S
        self._failure = LoadFailed("", "")
        self._failed_until = 0.0
        self._steady_at = 0.0
        self._slots = [Slot(number, once=once, now=now) for number in range(slots)]
        # The calls that are here, running or held. The last one of a replica that takes no more
        # calls stays known until the process ends.
        self._runs: dict[str, Run] = {}
        # Whether it takes no more calls.
        self._closed = False
        self._exit_by = 0.0

    @property
    def state(self) -> State:
        """How it looks from outside: in service it is IDLE as long as any place is free."""
        if self._stage is not State.IDLE or self._is_free():
            return self._stage
        ended = self._runs and all(run.outcome is not None for run in self._runs.values())
        return State.HOLDING if ended else State.RUNNING

    def on(self, event: Event, now: float) -> list[Action]:
        self._actions = []
        match event:
            case Received(peer, message):
                self._on_message(peer, message, now)
            case Answered(slot=slot):
                self._on_answer(self._slots[slot], event, now)
            case Loaded(slot, residue):
                self._on_loaded(self._slots[slot], residue, now)
            case Died(how, output_tail, slot):
                self._on_death(self._slots[slot], how, output_tail, now)
            case Raised(message, exception_type, traceback, slot):
                run = self._slots[slot].run
                if run is not None and run.started_at is not None and run.is_undecided:
                    error = Error(
                        code="function_error",
                        message=message,
                        exception_type=exception_type,
                        traceback=traceback,
                    )
                    self._decide(run, error, now)
            case Linked():
                self._uplink.stand(now)
                self._announce(now)
                self._actions += self._uplink.ping(now)
            case Gone(peer):
                self._on_gone(peer, now)
            case LoadFailed() if self._stage is State.BOOT:
                self._fail(event, now)
            case LoadFailed(message, traceback):
                self._on_barren(message, traceback, now)
            case Barren(how, output_tail):
                self._on_barren(f"the function's process {how} before any call", output_tail, now)
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
        return min(self._due(), self._uplink.due())

    def _due(self) -> float:
        match self._stage:
            case State.BOOT:
                return self._load_by
            case State.FAILED:
                return self._failed_until
            case State.LEAVING:
                return min(self._voice.due(), self._exit_by)
            case _:
                due = NEVER
                for run in self._runs.values():
                    due = min(due, run.due())
                for slot in self._slots:
                    due = min(due, slot.due())
                return due

    # Messages

    def _on_message(self, peer: bytes, message: Message, now: float) -> None:
        if peer == ROUTER:
            self._uplink.note_heard(now)
        match message:
            case Call():
                self._on_call(peer, message, now)
            case Ack(id=id, wait_ms=wait_ms):
                if id == self._voice.identity.session:
                    self._voice.forget(peer)
                    if self._stage is State.FAILED and wait_ms is not None:
                        self._failed_until = now + wait_ms / 1000
                elif self._stage is State.IDLE:
                    run = self._runs.get(id)
                    if run is not None and run.outcome is not None:
                        self._settle(run, now)
            case Pong() if peer == ROUTER:
                if self._uplink.note_pong(message):
                    self._announce(now)
            case Ping(number=number):
                if self.state is State.IDLE:
                    self._voice.note_idle(peer, now)
                self._send(peer, self._pong(number))
            case Cancel(id=id):
                run = self._runs.get(id)
                if run is not None and run.is_undecided:
                    why = "the caller cancelled it"
                    self._condemn(run, Error(code="cancelled", message=why), now)
            case _:
                pass  # kinds for others; a replica that doesn't need them isn't hurt by them

    def _on_call(self, peer: bytes, call: Call, now: float) -> None:
        identity = self._voice.identity
        if (run := self._runs.get(call.id)) is not None:
            run.caller, run.caller_gone_at = peer, None
            if run.outcome is not None:
                self._send(peer, run.outcome)
            elif run.started_at is not None:
                self._send(peer, self._voice.accept(run.call.id))
        elif call.session != identity.session:
            # Meant for who had this address before: whatever else is wrong, it isn't ours to say.
            self._send(peer, self._voice.busy(call))
        elif call.function not in identity.names:
            message = f"this replica serves {identity.function}, not {call.function}"
            self._refuse(peer, call, "function_not_found", message)
        elif self._stage is State.FAILED:
            self._refuse(peer, call, "init_failed", self._failure.message, self._failure.traceback)
        elif not self._is_free() or (call.resend and call.body is None):
            # Without a body it only asks what became of it: nothing, here.
            self._send(peer, self._voice.busy(call))
        elif call.deadline_ms == 0:
            self._refuse(peer, call, "deadline_exceeded", "its deadline had passed on arrival")
        elif call.body is not None and len(call.body) > self._max_body:
            message = f"the body has {len(call.body)} bytes, the limit is {self._max_body}"
            self._refuse(peer, call, "payload_too_large", message)
        else:
            self._take(peer, call, now)

    def _refuse(
        self, peer: bytes, call: Call, code: str, message: str, traceback: str = ""
    ) -> None:
        self._send(peer, self._voice.refusal(call, code, message, traceback))

    def _on_gone(self, peer: bytes, now: float) -> None:
        self._voice.forget(peer)
        if peer == ROUTER:
            self._uplink.break_off()
        for run in self._runs.values():
            if run.caller != peer:
                continue
            if peer == ROUTER:
                run.accept_at = NEVER  # back again, it hears what is held here
            elif run.caller_gone_at is None:
                run.caller_gone_at = now

    # A call's beginning

    def _is_free(self) -> bool:
        return self._stage is State.IDLE and self._places() > 0

    def _places(self) -> int:
        """How many calls could be taken now."""
        if self._closed or len(self._runs) >= MAX_HELD:
            return 0
        return sum(slot.is_free for slot in self._slots)

    def _take(self, peer: bytes, call: Call, now: float) -> None:
        free = [slot for slot in self._slots if slot.is_free]
        slot = next((slot for slot in free if slot.worker is Worker.PARKED), free[0])
        slot.run = run = Run(call, peer, timeout=self._timeout, now=now)
        self._runs[call.id] = run
        if slot.worker is Worker.PARKED:
            self._start(slot, run, now)
        if self._once:
            self._voice.forget(peer)  # it knows; the router does since READY
            self._close(now)

    def _start(self, slot: Slot, run: Run, now: float) -> None:
        # Before it is told: nobody can see the difference, and the telling takes time.
        self._actions.append(slot.start(now))
        if run.caller != ROUTER:
            self._send(run.caller, self._voice.accept(run.call.id))
        elif self._uplink.is_up:
            run.accept_at = now + ACCEPT_S

    def _on_loaded(self, slot: Slot, residue: str, now: float) -> None:
        used = self._once and self._stage is not State.BOOT
        if self._stage not in (State.BOOT, State.IDLE) or used or slot.worker is not Worker.ABSENT:
            return
        slot.load()
        if self._stage is State.BOOT:
            self._stage, self._residue = State.IDLE, residue
            self._steady_at = now + STEADY_S
            self._announce(now)
        elif slot.run is not None:
            self._start(slot, slot.run, now)

    # A call's end

    def _on_answer(self, slot: Slot, answer: Answered, now: float) -> None:
        run = slot.run
        if run is None or run.started_at is None or not run.is_undecided:
            return
        outcome: Result | Error
        if (size := max(answer.size, len(answer.body))) > self._max_body:
            message = f"the answer has {size} bytes, the limit is {self._max_body}"
            outcome = Error(id=run.call.id, code="payload_too_large", message=message)
        else:
            outcome = Result(
                id=run.call.id,
                content_type=answer.content_type,
                replica=self._voice.identity.replica,
                times={"run": round((now - run.started_at) * 1000)},
                body=answer.body,
            )
        slot.answer(run, now)
        self._finish(run, outcome, now)

    def _decide(self, run: Run, verdict: Error, now: float) -> None:
        """The call has failed; its worker is ending and may still have output."""
        run.verdict, run.verdict_by = verdict, now + DEATH_S

    def _condemn(self, run: Run, verdict: Error, now: float) -> None:
        if run.started_at is None:
            self._finish(run, verdict.replace(retry_safe=True), now)
            return
        self._decide(run, verdict, now)
        self._actions += [Kill(slot.number) for slot in self._slots if slot.run is run]

    def _on_death(self, slot: Slot, how: str, output_tail: str, now: float) -> None:
        run, unused = slot.run, slot.worker is Worker.PARKED
        slot.bury(now)
        if self._once and (self._stage is State.BOOT or (self._stage is State.IDLE and unused)):
            # An idle worker dies of a background thread or for lack of memory.
            if self._stage is State.IDLE and (self._kept or now >= self._steady_at):
                self._status = 1
                self._say_bye(now)
                self._leave(now)
                return
            message = f"the function's process {how} before any call"
            self._fail(LoadFailed(message, output_tail), now)
        elif run is not None and run.started_at is not None:
            verdict = run.verdict or Error(
                code="function_crashed", message=f"the function's process {how} before it answered"
            )
            self._finish(run, verdict.replace(output_tail=output_tail), now)
        elif slot.answered is not None:
            self._report_output(slot.answered, output_tail)
            slot.answered = None

    def _finish(self, run: Run, outcome: Result | Error, now: float) -> None:
        if isinstance(outcome, Error):
            outcome = self._voice.signed(outcome.replace(id=run.call.id))
        run.outcome = outcome
        run.call = run.call.replace(body=None)
        run.hold_until = now + HOLD_S
        run.accept_at = NEVER
        for slot in self._slots:
            if slot.run is run:
                slot.vacate(now)
        self._send(run.caller, outcome)

    def _settle(self, run: Run, now: float) -> None:
        """Nobody will ask for this outcome any more."""
        if self._closed and len(self._runs) == 1:
            self._leave(now)
            return
        del self._runs[run.call.id]

    def _give_back(self, run: Run, now: float) -> None:
        """No worker has come for it: it is certainly not accepted."""
        del self._runs[run.call.id]
        for slot in self._slots:
            if slot.run is run:
                slot.run = None
        self._send(run.caller, self._voice.busy(run.call))
        if self._closed and not self._runs:
            self._leave(now)

    # Leaving

    def _on_terminate(self, now: float) -> None:
        match self._stage:
            case State.BOOT:
                self._exit(0)
            case State.FAILED:
                self._exit(1)
            case State.IDLE if not self._closed:
                self._close(now)
                if self._runs:
                    return
                self._actions += [Kill(slot.number) for slot in self._slots if not slot.has_ended]
                self._leave(now)
            case _:
                pass

    def _on_barren(self, message: str, output_tail: str, now: float) -> None:
        """No slot will be refilled: what runs ends, and a fresh replica is better than this one."""
        if self._stage is State.BOOT:
            self._fail(LoadFailed(message, output_tail), now)
        elif self._stage is State.IDLE:
            self._status = 1
            if not self._closed:
                self._close(now)
            for run in list(self._runs.values()):
                if run.started_at is None and run.outcome is None:
                    self._give_back(run, now)
            if not self._runs and self._stage is State.IDLE:
                self._leave(now)

    def _fail(self, failure: LoadFailed, now: float) -> None:
        self._say_bye(now)
        self._stage = State.FAILED
        self._failure = failure
        self._failed_until = now + FAILED_S
        self._announce(now, is_news=True)

    def _close(self, now: float) -> None:
        """From now on no call is taken."""
        self._closed = True
        self._say_bye(now)

    def _leave(self, now: float) -> None:
        self._stage = State.LEAVING
        self._exit_by = now + DEATH_S
        for slot in self._slots:
            self._actions += slot.release()

    def _exit(self, status: int) -> None:
        self._actions.append(Exit(status))

    def _say_bye(self, now: float) -> None:
        self._actions += self._voice.bye(self._runs, now)

    # Time

    def _on_time(self, now: float) -> None:
        if self._stage is State.IDLE:
            for run in list(self._runs.values()):
                self._on_time_of(run, now)
            for slot in self._slots:
                self._actions += slot.on_time(now)
        elif self._stage is State.BOOT and now >= self._load_by:
            self._actions.append(Kill())
            self._fail(LoadFailed(f"loading the handler took longer than {LOAD_S:g} s", ""), now)
        elif self._stage is State.FAILED and now >= self._failed_until:
            self._exit(1)
        if self._stage is State.LEAVING:
            ended = all(slot.has_ended for slot in self._slots) or now >= self._exit_by
            if self._voice.is_heard(now) and ended:
                self._exit(self._status)
        self._actions += self._uplink.on_time(now)

    def _on_time_of(self, run: Run, now: float) -> None:
        if now < run.due():
            return
        gone = now >= run.gone_by()
        if run.is_undecided and now >= run.overdue_at:
            self._condemn(run, run.overdue(), now)
        if run.is_undecided and gone:
            self._condemn(run, Error(code="cancelled", message="its caller is gone"), now)
        if run.is_undecided and now >= run.give_back_at:
            self._give_back(run, now)
            return
        if now >= run.accept_at:
            run.accept_at = NEVER
            self._send(ROUTER, self._voice.accept(run.call.id))
        if run.verdict is not None and run.outcome is None and now >= run.verdict_by:
            self._finish(run, run.verdict, now)
        if run.outcome is not None and (gone or now >= run.hold_until):
            self._settle(run, now)
        elif now >= run.next_beat:
            run.next_beat = now + BEAT_S
            if run.caller_gone_at is None and run.caller != ROUTER:
                self._send(run.caller, self._voice.pong(0, "busy"))

    # The router

    def _announce(self, now: float, *, is_news: bool = False) -> None:
        """Tell the router, if there is one, who is here and what it holds."""
        if not self._uplink.is_up:
            return
        if self._stage is State.FAILED:
            # One that had loaded it, and lost its worker to an accident, says so once: a router
            # that is new knows of no other and would take it for the function's own failing.
            if is_news or not self._steady_at:
                self._send(ROUTER, self._voice.failed(self._failure))
            return
        # What has started: of the rest it isn't certain that it will run here.
        ours = [run for run in self._runs.values() if run.caller == ROUTER]
        held = [run for run in ours if run.started_at is not None or run.outcome is not None]
        if self._stage is not State.IDLE or (self._closed and not held):
            return  # not ready yet, or it takes nothing more: none of the router's business
        self._voice.note_idle(ROUTER, now)
        ready = self._voice.ready(
            slots=len(self._slots),
            free=self._places(),
            held=tuple(run.call.id for run in held),
            once=self._once,
            residue=self._residue,
        )
        self._send(ROUTER, ready)
        for run in held:
            run.accept_at = NEVER
        if self._closed:  # a router that doesn't know it yet must not count on it
            self._say_bye(now)

    def _report_output(self, run: Run, output_tail: str) -> None:
        """An error has brought its output along; an answer didn't wait for the end of it."""
        if run.caller == ROUTER and output_tail and isinstance(run.outcome, Result):
            self._send(ROUTER, Output(id=run.call.id, text=output_tail))

    # What it says

    def _send(self, peer: bytes, message: Message) -> None:
        self._actions.append(Send(peer, message))

    def _pong(self, number: int) -> Pong:
        state = self.state
        if state in (State.RUNNING, State.HOLDING, State.LEAVING):
            return self._voice.pong(number, "busy")
        failure = self._failure if state is State.FAILED else None
        return self._voice.pong(number, state.value, failure)
