"""A private Docker engine for tests: what `scripts/lab` is made of.

Stdlib only, since it runs before anything of the project is installed. Nothing here touches an
engine that was on the machine before: every engine of the lab lives in a network namespace and a
mount namespace of its own, and everything that the lab makes is recorded before it is made, so
that `down` finds it after a crash.
"""
