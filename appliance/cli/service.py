"""`locum run` and `locum check`."""

import json
from pathlib import Path
from typing import Literal

import click

from appliance.cli.common import config_option, json_option
from appliance.config import load


@click.command()
@config_option
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True, help="How lines are logged."
)
@click.pass_context
def run(context: click.Context, config: Path, log_format: Literal["text", "json"]) -> int:
    """Run the appliance in the foreground.

    It logs to standard error. SIGHUP reads the configuration anew, SIGTERM ends it in order.

    Example: locum run -c /etc/locum/locum.toml
    """
    loaded = load(config)
    from appliance import log, starting

    log.set_up(log_format, debug=bool(context.obj))
    return starting.run(loaded, log_format)


@click.command()
@config_option
@json_option
def check(config: Path, as_json: bool) -> int:
    """Try everything the configuration names.

    Prints a line for each thing tried: ok, warning or error, and what to do. Safe to run at any time, also beside a
    running appliance.

    Example: locum check -c /etc/locum/locum.toml
    """
    loaded = load(config)
    from appliance.check import Level, check_all

    worst = Level.OK
    found = []
    for finding in check_all(loaded):
        worst = max(worst, finding.level)
        found.append({"level": finding.level.word, "what": finding.what, "text": finding.text})
        if not as_json:
            mark = click.style(f"{finding.level.word:8}", fg=finding.level.color, bold=finding.level is not Level.OK)
            click.echo(f"{mark} {finding.what}: {finding.text}")
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    return 1 if worst is Level.ERROR else 0
