"""The control plane's processes. So far: the router, which knows demand and moves messages.

router      the socket, the keys, the loop
dispatch    what becomes of each call (pure)
tables      what dispatch keeps: callers, replicas, calls, pools (pure)
queue, log  waiting calls, ended calls (pure)
"""
