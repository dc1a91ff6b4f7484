"""The command `locum`: finds the command, and makes one line of everything that can go wrong.

Exit status 0: done; 1: it failed; 2: wrong usage or configuration. A traceback is shown with `--debug` only. A reader
that has had enough (`locum log | head`) is no failure.
"""

import errno
import os
import signal
import sys
import traceback
from collections.abc import Sequence

import click

from appliance import __version__
from appliance.cli.common import Failed
from appliance.cli.lazy import HadEnough, LazyGroup
from appliance.client import ClientError
from appliance.config import ConfigError

COMMANDS = {
    "init": "appliance.cli.init:init",
    "run": "appliance.cli.service:run",
    "check": "appliance.cli.service:check",
    "doctor": "appliance.cli.doctor:doctor",
    "status": "appliance.cli.inspect:status",
    "devices": "appliance.cli.inspect:devices",
    "log": "appliance.cli.inspect:log",
    "unlock": "appliance.cli.unlock:unlock",
    "lock": "appliance.cli.unlock:lock",
    "unlock-code": "appliance.cli.unlock:unlock_code",
    "drill": "appliance.cli.drill:drill",
    "outbox": "appliance.cli.outbox:outbox",
    "ledger": "appliance.cli.ledger:ledger",
    "inline": "appliance.cli.inline:inline",
    "meters": "appliance.cli.meters:meters",
    "discover": "appliance.cli.seeing:discover",
    "capture": "appliance.cli.seeing:capture",
    "decode": "appliance.cli.seeing_decode:decode",
    "demo": "appliance.cli.demo:demo",
    "simulate": "appliance.cli.simulate:simulate",
}
"""Where each command lives."""

DONE, FAILED, WRONG_USAGE = 0, 1, 2
INTERRUPTED = 128 + signal.SIGINT


@click.group(
    cls=LazyGroup, places=COMMANDS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option("--debug", is_flag=True, help="Show tracebacks, and log more.")
@click.version_option(__version__, prog_name="Locum", message="%(prog)s %(version)s")
@click.pass_context
def locum(context: click.Context, debug: bool) -> None:
    """Stands in for a print-management server while the link to it is down.

    Example: locum run -c /etc/locum/locum.toml
    """
    context.obj = debug


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        status = locum.main(arguments, prog_name="locum", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else str(error))
        return WRONG_USAGE
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "locum"
        return _say(f"{command}: {_one_line(error.format_message())}; see: {command} --help", WRONG_USAGE)
    except ConfigError as error:
        return _say(str(error), WRONG_USAGE)
    except Failed as error:
        return _say(f"locum: {error}", error.status)
    except (ClientError, click.ClickException) as error:
        return _say(f"locum: {error}", FAILED)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except (BrokenPipeError, HadEnough):
        return _had_enough()
    except Exception as error:  # the last resort: whatever it is, a person gets one line
        if isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None:
            _had_enough()
            return _say("locum: cannot write what there is to say: no space left", FAILED)
        if "--debug" in arguments:
            traceback.print_exc()
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} in {os.path.basename(place.filename)}:{place.lineno}"
        return _say(f"locum: an error that should not happen ({where}); report it with: locum --debug ...", FAILED)
    return status if isinstance(status, int) else DONE


def _had_enough() -> int:
    # What is still buffered has nowhere to go; without this the interpreter complains about it at its end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
    return DONE


def _say(text: str, status: int) -> int:
    click.echo(text, err=True)
    return status


def _one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")
