"""The dialects that this Locum speaks, by name."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from appliance.dialects.base import Dialect, Listening, Parts, Port

__all__ = ["GROUP", "Dialect", "Listening", "Parts", "Port", "dialect"]

GROUP = "locum.dialects"
OURS = ("radius", "terminal", "papercut", "cardreader")


@cache
def dialect(name: str) -> Dialect:
    """The dialect of this name; imported when it is first asked for. Raises LookupError if nobody brings it."""
    if name in OURS:
        made: Dialect = import_module(f"appliance.dialects.{name}").DIALECT
        return made
    for found in entry_points(group=GROUP, name=name):
        brought: Dialect = found.load()
        return brought
    raise LookupError(f"no dialect '{name}' is installed")
