"""What is under measurement, put up for one run and removed after it.

swarm       services, programs and a router of their own in the engine that the environment names
events      when the engine started and ended their containers
local       functions and programs as processes of this machine, with a controller of their own
controller  the router's image and its keys
floors      the least that the engine can do, as services
"""

from __future__ import annotations

from benchmarks.rig.swarm import Rig

__all__ = ["Rig"]
