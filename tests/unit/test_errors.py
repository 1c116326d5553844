"""The typed failures of calls: what each says, and that none changes on its way."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from funker.rpc.errors import CODES, CallError, FunkerError, ProtocolError
from funker.rpc.messages import Error, decode, encode

ID = "0123456789abcdef0123456789abcdef"

#: Every code of the protocol: who is at fault, and whether the code alone says that the function
#: did not start.
PROTOCOL_CODES = {
    "function_error": ("function", False),
    "function_timeout": ("function", False),
    "function_crashed": ("function", False),
    "function_not_found": ("caller", True),
    "ambiguous_function": ("caller", True),
    "init_failed": ("function", True),
    "replica_lost": ("platform", False),
    "queue_full": ("platform", True),
    "deadline_exceeded": ("platform", False),
    "cancelled": ("caller", False),
    "payload_too_large": ("caller", False),
    "unauthorized": ("caller", True),
    "protocol_error": ("platform", False),
    "router_unavailable": ("platform", False),
}


def test_every_code_of_the_protocol_has_a_class_that_says_who_is_at_fault() -> None:
    assert {code: (cls.fault, cls.safe) for code, cls in CODES.items()} == PROTOCOL_CODES


def test_every_class_says_when_it_is_raised() -> None:
    for cls in CODES.values():
        assert (cls.__doc__ or "").startswith("Raised when"), cls


TEXTS = st.text(max_size=30)
DETAILS = ("hint", "function", "replica", "exception_type", "traceback", "output_tail")


@given(
    code=st.sampled_from(sorted(CODES)),
    message=TEXTS,
    id=st.none() | st.just(ID),
    retry_safe=st.booleans(),
    texts=st.fixed_dictionaries(dict.fromkeys(DETAILS, TEXTS)),
)
def test_every_error_survives_the_wire_with_all_that_it_says(
    code: str, message: str, id: str | None, retry_safe: bool, texts: dict[str, str]
) -> None:
    raised = CODES[code](message, id=id, retry_safe=retry_safe, **texts)
    received = decode(encode(Error(**raised.fields())))
    assert isinstance(received, Error)
    again = received.exception()
    assert type(again) is CODES[code]
    assert str(again) == message
    assert again.fields() == raised.fields()
    assert Error(**again.fields()) == received


def test_an_unknown_code_from_a_newer_peer_keeps_its_code_and_its_message() -> None:
    error = Error(id=ID, code="out_of_credit", message="pay first", hint="at the desk").exception()
    assert isinstance(error, CallError)
    assert (error.code, str(error), error.hint, error.id) == (
        "out_of_credit",
        "pay first",
        "at the desk",
        ID,
    )
    assert error.retry_safe is False
    assert "out_of_credit" not in CODES
    assert Error(**error.fields()).code == "out_of_credit"


@pytest.mark.parametrize("cls", CODES.values(), ids=CODES.keys())
def test_whether_a_retry_is_safe_follows_from_the_code_unless_it_is_said(
    cls: type[CallError],
) -> None:
    assert cls("no").retry_safe is cls.safe
    assert cls("no", retry_safe=True).retry_safe is True
    assert cls("no", retry_safe=False).retry_safe is False


@pytest.mark.parametrize("cls", CODES.values(), ids=CODES.keys())
def test_an_error_crosses_process_borders_whole(cls: type[CallError]) -> None:
    error = cls("no", hint="try 2", id=ID, function="add", retry_safe=True, traceback="line\n")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert again.fields() == error.fields()


def test_one_root_catches_everything() -> None:
    assert issubclass(CallError, FunkerError)
    assert all(issubclass(cls, CallError) for cls in CODES.values())
    error = FunkerError("no such file: funker.yaml", hint="create it")
    assert (str(error), error.message, error.hint) == (
        "no such file: funker.yaml",
        "no such file: funker.yaml",
        "create it",
    )


def test_an_error_that_answers_an_unreadable_message_has_no_id() -> None:
    assert Error(code="protocol_error", message="unknown kind").id is None
    assert ProtocolError("unknown kind").fields()["id"] is None
