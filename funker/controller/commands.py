"""What the reconciler may be told to do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Revive:
    """Start replicas of this function that shall run and that nobody will start."""

    name: str


@dataclass(frozen=True, slots=True)
class Scale:
    """Have so many replicas of this function run."""

    name: str
    replicas: int


@dataclass(frozen=True, slots=True)
class Say:
    """Tell the operator."""

    text: str


Command = Revive | Scale | Say
