"""The command line, `locum`: one module a group of commands, each loaded only when it is asked for."""

from appliance.cli.main import main

__all__ = ["main"]
