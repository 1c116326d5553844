"""The least that any replica over ZeroMQ needs."""

from __future__ import annotations

import zmq  # noqa: F401
