"""The backend `swarm`: all that knows Docker's API. `backend.Swarm` is what others use.

engine, contexts, ssh        the connection
service, overlay, placement  what a function is in the swarm's words
store, surroundings          reading and writing it
rollout, report, advice      what became of it
entrance, anchor, attached, relay, servicelog
                             calls and output
fleet, changes, slots        what the reconciler sees and does
"""
