"""`locum init`: asks what is not given as an option, and writes a first configuration."""

from pathlib import Path

import click

from appliance.cli.common import Failed
from appliance.cli.questions import Questions, is_a_person, secret_from
from appliance.cli.unlock import check_code
from appliance.config import addresses, zones
from appliance.init import Answers, CannotInit, Written, write

ETC, VAR = Path("/etc/locum"), Path("/var/lib/locum")
FILE = click.Path(path_type=Path, dir_okay=False, allow_dash=True)


@click.command()
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=ETC,
    show_default=True,
    metavar="DIR",
    help="Where the configuration and its secrets go.",
)
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the ledger goes: /var/lib/locum, or DIR/state with another --dir.",
)
@click.option("--name", metavar="NAME", help="What this appliance is called.")
@click.option(
    "--environment", type=click.Choice(["commercial", "education"]), help="Whether offline mode waits for a code."
)
@click.option(
    "--upstream-dialect",
    "dialect",
    type=click.Choice(["radius", "terminal", "papercut"]),
    help="What the Application Server speaks.",
)
@click.option(
    "--upstream-name", metavar="NAME", default="hq", show_default=True, help="What the server is called here."
)
@click.option("--address", metavar="HOST", help="The server's address (radius, terminal).")
@click.option(
    "--upstream-port",
    type=click.IntRange(1, 65535),
    default=9790,
    show_default=True,
    help="The server's port (terminal).",
)
@click.option("--url", metavar="URL", help="The address of the server's Web Services (papercut).")
@click.option("--time-zone", metavar="ZONE", help="The server's time zone (papercut); else this machine's.")
@click.option(
    "--ca-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="FILE",
    help="The private authority of the server's certificate (papercut).",
)
@click.option(
    "--secret-file", type=FILE, metavar="FILE", help="Holds the server's shared secret (radius); - for stdin."
)
@click.option("--token-file", type=FILE, metavar="FILE", help="Holds the server's token (papercut); - for stdin.")
@click.option(
    "--listen",
    "listens",
    type=click.Choice(["radius", "terminal"]),
    multiple=True,
    help="What the devices speak; may be given twice.",
)
@click.option("--bind", metavar="ADDRESS", default="0.0.0.0", show_default=True, help="Where devices reach Locum.")
@click.option("--networks", metavar="NET[,NET]", help="The networks of the RADIUS devices.")
@click.option(
    "--copier-secret-file", type=FILE, metavar="FILE", help="Holds the RADIUS devices' secret; else one is made."
)
@click.option("--delay", metavar="TIME", help="From the first failed contact to offline mode.")
@click.option("--unlock-code-file", type=FILE, metavar="FILE", help="Holds the unlock code; - for stdin.")
@click.option(
    "--tls",
    type=click.Choice(["none", "self-signed"]),
    help="Whether a certificate is made for the terminals' port, for a lab.",
)
@click.option("--force", is_flag=True, help="Write anew what is there; the ledger is left alone.")
def init(
    directory: Path, state_dir: Path | None, name: str | None, environment: str | None, dialect: str | None,
    upstream_name: str, address: str | None, upstream_port: int, url: str | None, time_zone: str | None,
    ca_file: Path | None, secret_file: Path | None, token_file: Path | None, listens: tuple[str, ...], bind: str,
    networks: str | None, copier_secret_file: Path | None, delay: str | None, unlock_code_file: Path | None,
    tls: str | None, force: bool,
) -> None:  # fmt: skip
    """Write a first configuration.

    Asks for what is not given as an option; where standard input is no terminal, what has no default must be given.
    Nothing that is there is overwritten without --force.

    Example: locum init --dir /etc/locum
    """
    ask = Questions(is_a_person())
    directory = directory.absolute()
    name = ask.text("--name", name, "Name of this appliance", "locum")
    dialect = ask.choice("--upstream-dialect", dialect, "What the server speaks", ["radius", "terminal", "papercut"])
    secret = b""
    if dialect == "papercut":
        url = ask.text("--url", url, "Address of its Web Services, such as https://print.example.org:9192")
        secret = ask.secret("--token-file", token_file, "Its token (auth.webservices.auth-token)")
        time_zone = ask.text("--time-zone", time_zone, "Its time zone", zones.local())
    else:
        address = ask.text("--address", address, "Its address")
    if dialect == "radius":
        secret = ask.secret("--secret-file", secret_file, "The secret that it shares with Locum")
    if dialect == "papercut":
        usual = "terminal"
        listens = listens or tuple(
            ask.text("--listen", None, "What the devices speak (radius, terminal)", usual).replace(",", " ").split()
        )
    listens = tuple(dict.fromkeys(listens or (dialect,)))
    nets: tuple[str, ...] = ()
    if "radius" in listens:
        question = "Networks of the RADIUS devices, such as 10.7.0.0/24"
        nets = _several(ask.text("--networks", networks, question, refusal=_no_networks))
    if "terminal" in listens and tls is None:
        tls = ask.choice("--tls", None, "A certificate for the terminals' port", ["none", "self-signed"], "none")
    environment = ask.choice(
        "--environment", environment, "Does offline mode wait for a code", ["commercial", "education"], "commercial"
    )
    delay = ask.text("--delay", delay, "From the first failed contact to offline mode", "60s")
    answers = Answers(
        name=name,
        state_dir=(state_dir or (VAR if directory == ETC else directory / "state")).absolute(),
        upstream_name=upstream_name,
        dialect=dialect,
        listens=listens,
        address=address or "",
        upstream_port=upstream_port,
        url=url or "",
        time_zone=time_zone or "",
        ca_file=ca_file.absolute() if ca_file else None,
        secret=secret,
        copier_secret=secret_from(copier_secret_file, "--copier-secret-file") if copier_secret_file else b"",
        networks=nets,
        bind=bind,
        environment=environment,
        delay=delay,
        tls=tls == "self-signed",
        unlock_hash=_unlock_hash(ask, environment, unlock_code_file),
    )
    try:
        written = write(directory, answers, force)
    except CannotInit as problem:
        raise Failed(str(problem), 2 if problem.usage else 1) from None
    _say_written(written, answers, secret_was_made="radius" in listens and copier_secret_file is None)


def _say_written(written: Written, answers: Answers, secret_was_made: bool) -> None:
    for file in written.files:
        click.echo(f"Wrote {file}")
    click.echo(f"The state directory is {written.state_dir}.")
    click.echo("console.password is for the console, which comes with a later version.")
    if secret_was_made:
        click.echo("copiers.secret was made here: set it in the copiers.")
    if answers.environment == "education" and not answers.unlock_hash:
        click.echo(f"No unlock code is set yet: locum unlock-code set -c {written.config}")
    click.echo(f"Write down whose signatures the ledger bears: locum ledger key -c {written.config}")
    click.echo(f"Next: locum check -c {written.config}")


def _unlock_hash(ask: Questions, environment: str, file: Path | None) -> str:
    if file is not None:
        code = secret_from(file, "--unlock-code-file").decode("utf-8", "replace")
    elif environment == "education":
        code = ask.perhaps_secret("Unlock code (empty: later, with locum unlock-code set)")
    else:
        return ""
    if not code:
        return ""
    check_code(code)
    from proxy.net.codes import hash_code

    return hash_code(code)


def _several(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


def _no_networks(text: str) -> str:
    """Why these are no networks, "" if they are."""
    for each in _several(text):
        try:
            addresses.network(each)
        except ValueError as error:
            return str(error)
    return "" if _several(text) else "name one at least"
