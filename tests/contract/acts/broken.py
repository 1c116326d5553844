"""A handler that can't be loaded."""

from a_library_that_is_missing import handle

__all__ = ["handle"]
