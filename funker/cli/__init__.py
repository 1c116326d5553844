"""The command `funker`: one module for each group of commands, over the backends and the builder.

Data goes to stdout, everything else to stderr. Modules here import docker, pydantic and zmq inside
commands only, so that `funker --help` answers at once.
"""
