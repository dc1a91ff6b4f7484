"""`locum simulate server` and `locum simulate copiers`: the two ends that Locum stands between, for a lab."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from appliance.cli.common import F, Failed

if TYPE_CHECKING:
    from appliance.simulator.lab import AnyTarget
    from appliance.simulator.server import Face

PORT = click.IntRange(1, 65535)
PORT_OR_OFF = click.IntRange(0, 65535)
ANSWERS = ("html", "half-xml", "500", "503", "huge", "never")
FILE = click.Path(path_type=Path)


class ForTests(click.Option):
    """An option that only tests want; the help shows these apart."""


class Grouped(click.Command):
    """A command whose help has a part "For tests"."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, wanted in (("Options", False), ("For tests", True)):
            shown = [each for each in self.get_params(ctx) if isinstance(each, ForTests) is wanted]
            records = [record for each in shown if (record := each.get_help_record(ctx)) is not None]
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def _secret_option(words: str) -> Callable[[F], F]:
    return click.option("--secret-file", type=FILE, metavar="FILE", help=words)


_users_option = click.option(
    "--users",
    type=FILE,
    metavar="FILE",
    help="CSV: username,full_name,card,secondary_card,balance,restricted; without it, two dozen people of our own.",
)
_auth_port_option = click.option("--auth-port", type=PORT, default=1812, show_default=True, help="For RADIUS logins.")
_accounting_port_option = click.option(
    "--accounting-port", type=PORT, default=1813, show_default=True, help="For RADIUS accounting."
)


@click.group()
def simulate() -> None:
    """An Application Server and copiers, to try Locum in a lab.

    Example: locum simulate server --dir /tmp/lab
    """


@simulate.command(cls=Grouped)
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="DIR",
    help="Where the server keeps its book, book.db.",
)
@click.option("--bind", default="127.0.0.1", show_default=True, metavar="A", help="The address to listen at.")
@_users_option
@click.option(
    "--xmlrpc-port",
    type=PORT_OR_OFF,
    default=9191,
    show_default=True,
    help="For PaperCut's Web Services and the page; 0: none.",
)
@click.option(
    "--xmlrpc-tls-port",
    type=PORT_OR_OFF,
    default=9192,
    show_default=True,
    help="The same over TLS, where there is a certificate; 0: none.",
)
@click.option(
    "--terminal-port", type=PORT_OR_OFF, default=9791, show_default=True, help="For copier terminals; 0: none."
)
@click.option("--terminal-tls", is_flag=True, help="Terminals speak TLS.")
@click.option("--tls-certificate", type=FILE, metavar="FILE", help="The server's certificate, PEM.")
@click.option("--tls-key", type=FILE, metavar="FILE", help="Its key, PEM.")
@click.option(
    "--token",
    default="lab-token",
    show_default=True,
    metavar="TOKEN",
    help="The Web Services' token: a string, a JSON list or a JSON object.",
)
@click.option(
    "--allow",
    multiple=True,
    metavar="NET",
    help="Who may call the Web Services, an address or a network, several times; without it, loopback and private.",
)
@_secret_option("The RADIUS secret; without it the server does not speak RADIUS.")
@_auth_port_option
@_accounting_port_option
@click.option("--printer", multiple=True, cls=ForTests, metavar="NAME", help="A printer that is known, several times.")
@click.option("--printers", type=FILE, cls=ForTests, metavar="FILE", help="The same, one a line.")
@click.option(
    "--unknown-user",
    type=click.Choice(["fault", "create"]),
    default="fault",
    cls=ForTests,
    show_default=True,
    help="A job for a user whom nobody knows.",
)
@click.option(
    "--unknown-printer",
    type=click.Choice(["fault", "create"]),
    cls=ForTests,
    help="A job on a printer that nobody knows; without it, fault where printers are named, else create.",
)
@click.option(
    "--die-after-commit",
    type=click.IntRange(0),
    default=0,
    cls=ForTests,
    metavar="N",
    help="End like kill -9 once N jobs are committed, before the last is answered.",
)
@click.option(
    "--answer-late", type=click.FloatRange(0), default=0.0, cls=ForTests, metavar="SECONDS", help="Answer so late."
)
@click.option("--answer", type=click.Choice(ANSWERS), cls=ForTests, help="What comes instead of an answer.")
@click.option("--refuse-address", is_flag=True, cls=ForTests, help="Refuse everybody's address.")
def server(directory: Path, bind: str, users: Path | None, **told: Any) -> int:
    """An Application Server: PaperCut's Web Services, copier terminals, RADIUS.

    It lets in whose card it knows, charges jobs, and writes all of it into a book of its own before it answers. The
    switches for tests can be changed while it runs, in switches.json beside the book.

    Example: locum simulate server --dir /tmp/lab --xmlrpc-port 9191 --terminal-port 9791
    """
    from twisted.internet.error import CannotListenError

    from appliance.simulator import settings
    from appliance.simulator.accounts import CardTaken
    from appliance.simulator.book import Book, BookError
    from appliance.simulator.server import serve
    from appliance.simulator.state import State
    from appliance.simulator.switches import Switches
    from appliance.simulator.users import UsersError, read_users, shipped_users

    try:
        ip_address(bind)
    except ValueError:
        raise Failed(f"--bind {bind}: is no IPv4 or IPv6 address; give one of this machine", 2) from None
    switches = Switches(
        unknown_user=told["unknown_user"],
        unknown_printer=told["unknown_printer"] or "",
        answer=told["answer"] or "",
        answer_late=told["answer_late"],
        die_after_commit=told["die_after_commit"],
        refuse_address=told["refuse_address"],
    )
    try:
        faces = _faces(bind, told)
        known = read_users(users) if users else shipped_users()
        printers = settings.printers(told["printer"], told["printers"])
        book = Book(directory)
        return serve(State(book, known, printers), book, faces, switches)
    except CardTaken as error:
        raise Failed(
            f"{users or 'the users'}: {error} in the book; change the file, or give --dir another", 2
        ) from None
    except (UsersError, BookError, settings.SettingError) as error:
        raise Failed(str(error), 2) from None
    except CannotListenError as error:
        words = getattr(error.socketError, "strerror", None) or error.socketError
        kind = "UDP" if error.port in (told["auth_port"], told["accounting_port"]) else "TCP"
        raise Failed(
            f"cannot listen on {error.interface} port {error.port} ({kind}): {words}; give another port or --bind", 2
        ) from None


def _faces(bind: str, told: dict[str, Any]) -> list[Face]:
    """The faces that the options ask for. Raises Failed, SettingError."""
    from appliance.simulator import settings
    from appliance.simulator.papercut import Access, PapercutFace
    from appliance.simulator.radius import RadiusFace
    from appliance.simulator.terminal_face import TerminalFace

    tls = settings.server_tls(told["tls_certificate"], told["tls_key"])
    if told["terminal_tls"] and tls is None:
        raise Failed("--terminal-tls needs a certificate; give --tls-certificate and --tls-key", 2)
    faces: list[Face] = []
    terminal = TerminalFace(bind, told["terminal_port"], tls if told["terminal_tls"] else None)
    plain, secure = told["xmlrpc_port"] or None, (told["xmlrpc_tls_port"] or None) if tls else None
    if plain or secure:
        access = Access(settings.networks(told["allow"]), settings.tokens(told["token"]))
        faces.append(PapercutFace(bind, plain, secure, tls, access, terminal.terminals))
    if told["terminal_port"]:
        faces.append(terminal)
    if told["secret_file"] is not None:
        faces.append(RadiusFace(bind, told["auth_port"], told["accounting_port"], _secret(told["secret_file"])))
    if not faces:
        raise Failed("every port is 0 and there is no --secret-file: nothing to serve; give a port", 2)
    return faces


@simulate.command()
@click.option("--terminal", metavar="HOST:PORT", help="What terminals take for the server: Locum.")
@click.option("--tls-ca", type=FILE, metavar="FILE", help="The terminals speak TLS and trust this certificate, PEM.")
@click.option("--radius", "host", metavar="HOST", help="What copiers that speak RADIUS take for the server.")
@click.option("--meters", metavar="HOST:PORT", help="Copiers with page meters: where the first one answers SNMP.")
@click.option("--community", default="public", show_default=True, help="With --meters: the community.")
@click.option("--plain", is_flag=True, help="With --meters: they have the Printer MIB only.")
@_auth_port_option
@_accounting_port_option
@_secret_option("The RADIUS secret.")
@_users_option
@click.option("--count", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many copiers.")
@click.option("--jobs", type=click.IntRange(1, 10_000_000), default=60, show_default=True, help="How many jobs.")
@click.option(
    "--rate",
    type=click.FloatRange(0, 100_000),
    default=0,
    show_default=True,
    help="Jobs a second over all copiers; 0: as fast as they are acknowledged.",
)
def copiers(users: Path | None, count: int, jobs: int, rate: float, **told: Any) -> int:
    """Copiers that speak the terminal dialect or RADIUS, or that have page meters.

    They swipe cards, copy, and send every record again until it is acknowledged. Exits 0 if every job was. With
    --meters their counters are read by SNMP and move as people copy, until interrupted; each line of standard input is
    done: "copy 3 1", "2 print 5", "reset", "exchange", "reboot", "sleep", "wake", "wrap 10", "show".

    Example: locum simulate copiers --terminal 127.0.0.1:9790 --count 5 --jobs 100
    """
    from twisted.internet.error import CannotListenError

    from appliance.simulator.lab import LabError, run_lab
    from appliance.simulator.users import UsersError, read_users, shipped_users

    if told["meters"] is not None:
        return _metered(told, count, jobs, rate)
    try:
        target = _target(told)
        known = read_users(users) if users else shipped_users()
    except (UsersError, LabError) as error:
        raise Failed(str(error), 2) from None
    cards = [user.card for user in known if user.card]
    if not cards:
        raise Failed(f"{users}: nobody in it has a card; give at least one", 2)
    try:
        return run_lab(target, cards, count=count, jobs=jobs, rate=rate)
    except CannotListenError as error:
        words = getattr(error.socketError, "strerror", None) or error.socketError
        raise Failed(f"{count} copiers need {2 * count} sockets: {words}; give a smaller --count", 1) from None


@simulate.command()
@click.option("--listen", metavar="HOST:PORT", help="Where the server, or Locum, connects to this reader.")
@click.option("--connect", metavar="HOST:PORT", help="Where this reader connects to.")
@click.option("--rfideas", is_flag=True, help="It has the prompt of rf IDEAS and takes its commands.")
@click.option(
    "--pause",
    type=click.FloatRange(0.1, 3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a card waits for its answer.",
)
@click.argument("cards", nargs=-1, metavar="[CARD]...")
def reader(listen: str | None, connect: str | None, rfideas: bool, pause: float, cards: tuple[str, ...]) -> None:
    """A network card reader.

    It swipes the cards one after the other, and says what it is told: beeps, errors, lights. Without cards, each line
    of standard input is one.

    Example: locum simulate reader --listen 127.0.0.1:7778 04A1C3F2 04A1C3F2
    """
    import sys

    from appliance.config.addresses import with_port
    from appliance.simulator.reader import Reader, connected, play

    if (listen is None) == (connect is None):
        raise Failed("give either --listen HOST:PORT or --connect HOST:PORT", 2)
    option, text = ("--connect", connect) if connect is not None else ("--listen", listen or "")
    try:
        address, port = with_port(text)
    except ValueError as error:
        raise Failed(f"{option} {text} {error}", 2) from None
    swiped = cards or (line.strip() for line in sys.stdin)
    try:
        with connected(address, port, listens=connect is None) as line:
            click.echo("connected")
            play(line, Reader(click.echo, rfideas=rfideas), swiped, pause)
    except OSError as error:
        raise Failed(f"{option} {text}: {error.strerror or error}; is it the right address?", 1) from None


def _metered(told: dict[str, Any], count: int, jobs: int, rate: float) -> int:
    """Copiers with page meters. Raises Failed."""
    from twisted.internet.error import CannotListenError

    from appliance.config.addresses import with_port
    from appliance.simulator.metered import run_metered

    if told["terminal"] is not None or told["host"] is not None:
        raise Failed("give one of --terminal, --radius and --meters", 2)
    try:
        address, port = with_port(told["meters"])
    except ValueError as error:
        raise Failed(f"--meters {told['meters']} {error}", 2) from None
    given = click.get_current_context().get_parameter_source("jobs") is not click.core.ParameterSource.DEFAULT
    how: dict[str, Any] = {"count": count, "jobs": jobs if given else 0, "rate": rate}
    try:
        return run_metered(
            address, port, **how, community=told["community"].encode(), plain=told["plain"], say=click.echo
        )
    except CannotListenError as error:
        words = getattr(error.socketError, "strerror", None) or error.socketError
        raise Failed(f"--meters {told['meters']}: cannot listen ({words}); is another port free?", 1) from None


def _target(told: dict[str, Any]) -> AnyTarget:
    """What the copiers speak to. Raises Failed, LabError."""
    from appliance.simulator.copier import Target
    from appliance.simulator.lab import resolved
    from appliance.simulator.terminal import TerminalTarget

    if (told["terminal"] is None) == (told["host"] is None):
        raise Failed("give either --terminal HOST:PORT or --radius HOST (or --meters HOST:PORT)", 2)
    if told["host"] is not None:
        if told["secret_file"] is None:
            raise Failed("--radius needs --secret-file; name a file with the secret", 2)
        secret = _secret(told["secret_file"])
        return Target(resolved(told["host"]), told["auth_port"], told["accounting_port"], secret)
    host, colon, port = told["terminal"].rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise Failed(f"--terminal {told['terminal']}: is no HOST:PORT; write it as 127.0.0.1:9790", 2)
    host = host.removeprefix("[").removesuffix("]")
    if told["tls_ca"] is None:
        return TerminalTarget(resolved(host, "--terminal"), int(port))
    return TerminalTarget(host, int(port), _certificate(told["tls_ca"]))


def _certificate(path: Path) -> bytes:
    """A certificate in PEM. Raises Failed."""
    from OpenSSL.SSL import Error
    from twisted.internet.ssl import Certificate

    try:
        pem = path.read_bytes()
        Certificate.loadPEM(pem)
    except OSError as error:
        raise Failed(f"--tls-ca {path}: cannot be read ({error.strerror}); name a PEM file", 2) from None
    except (ValueError, Error):
        raise Failed(f"--tls-ca {path}: is no certificate in PEM; name one", 2) from None
    return pem


def _secret(path: Path) -> bytes:
    """The secret in a file, without its last line break. Raises Failed."""
    try:
        value = path.read_bytes().removesuffix(b"\n").removesuffix(b"\r")
        open_to_all = path.stat().st_mode & 0o007
    except OSError as error:
        raise Failed(
            f"--secret-file {path}: cannot be read ({error.strerror}); name a file with the secret", 2
        ) from None
    if open_to_all:
        raise Failed(f"--secret-file {path}: is open to everybody; run: chmod o-rwx {path}", 2)
    if not value:
        raise Failed(f"--secret-file {path}: is empty; write the secret into it", 2)
    return value
