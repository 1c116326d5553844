"""Can't be loaded."""

raise RuntimeError("no luck today")
