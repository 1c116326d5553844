"""What callers and replicas share: the wire protocol and the client. Needs only pyzmq."""
