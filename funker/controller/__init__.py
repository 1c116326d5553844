"""The control plane's processes. `router` hears the world; `reconciler` talks to the backend.

router      its loop; sockets, doorman (keys) and settings are its edges
dispatch    who is told of what; what becomes of a call is in calls, waiting, ledger (pure)
names       which function is meant; callers, replicas, liveness: who is there (pure)
log         what became of calls (pure)
reconciler  its loop; link is its connection to the router, plan what it decides (pure)
"""
