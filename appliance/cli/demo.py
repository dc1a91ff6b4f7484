"""`locum demo`."""

from pathlib import Path

import click

from appliance.cli.common import json_option


@click.command()
@json_option
@click.option("--copiers", type=click.IntRange(1, 100), default=5, show_default=True, help="How many copiers.")
@click.option("--jobs", type=click.IntRange(0, 100_000), default=60, show_default=True, help="How many jobs.")
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Keep the ledger, the server's book and the logs there.",
)
def demo(as_json: bool, copiers: int, jobs: int, keep: Path | None) -> int:
    """Show a whole outage on this machine.

    Starts a server, copiers and Locum between them, and ends the server twice. An office goes on by itself, a school
    library asks for a code. Needs no configuration and touches nothing outside a directory of its own. Exits 0 only if
    every figure adds up.

    Example: locum demo --copiers 3 --keep /tmp/locum-demo
    """
    from appliance.demo import run

    return run(copiers=copiers, jobs=jobs, keep=keep, as_json=as_json)
