"""Command groups whose commands are loaded when they are named, so that `locum status` does not wait for Twisted."""

import importlib
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import click


class HadEnough(Exception):
    """Whoever reads our output has gone; click would make a failure of a BrokenPipeError."""


class LazyGroup(click.Group):
    """`places`: each command's name and where it is, as "module:name". A module that is not there is a command that
    this version does not have.
    """

    def __init__(self, *args: Any, places: Mapping[str, str], **extra: Any) -> None:
        super().__init__(*args, **extra)
        self._places = places

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        try:
            return super().make_context(*args, **extra)
        except BrokenPipeError:
            raise HadEnough from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise HadEnough from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, place in self._places.items() if find_spec(place.split(":")[0]) is not None]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        module, name = self._places[cmd_name].split(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command
