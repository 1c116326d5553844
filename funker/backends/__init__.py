"""Where replicas run. Everything above this package sees only `base.Backend`."""
