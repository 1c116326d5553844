"""How hypothesis runs here: no deadline for one example, since CI machines stall at will."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("unit", deadline=None)
settings.load_profile("unit")
