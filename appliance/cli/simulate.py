"""`locum simulate server` and `locum simulate copiers`: the two ends that Locum stands between, for a lab."""

from ipaddress import ip_address
from pathlib import Path

import click

from appliance.cli.common import Failed

PORT = click.IntRange(1, 65535)
_secret_option = click.option(
    "--secret-file", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The RADIUS secret."
)
_users_option = click.option(
    "--users",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="CSV: username,full_name,card,secondary_card,balance,restricted; without it, two dozen people of our own.",
)
_auth_port_option = click.option("--auth-port", type=PORT, default=1812, show_default=True, help="For logins.")
_accounting_port_option = click.option(
    "--accounting-port", type=PORT, default=1813, show_default=True, help="For accounting."
)


@click.group()
def simulate() -> None:
    """An Application Server and copiers, to try Locum in a lab.

    Example: locum simulate server --dir /tmp/lab --secret-file /tmp/lab.secret
    """


@simulate.command()
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="DIR",
    help="Where the server keeps its book, book.db.",
)
@click.option("--bind", default="127.0.0.1", show_default=True, metavar="A", help="The address to listen at.")
@_auth_port_option
@_accounting_port_option
@_secret_option
@_users_option
def server(
    directory: Path, bind: str, auth_port: int, accounting_port: int, secret_file: Path, users: Path | None
) -> int:
    """An Application Server that speaks RADIUS.

    It lets in whose card it knows, and writes what it is sent into a book of its own before it answers.

    Example: locum simulate server --dir /tmp/lab --secret-file /tmp/lab.secret
    """
    from twisted.internet.error import CannotListenError

    from appliance.simulator.book import Book, BookError
    from appliance.simulator.radius import RadiusFace
    from appliance.simulator.server import serve
    from appliance.simulator.users import UsersError, read_users, shipped_users

    try:
        ip_address(bind)
    except ValueError:
        raise Failed(f"--bind {bind}: is no IPv4 or IPv6 address; give one of this machine", 2) from None
    face = RadiusFace(bind, auth_port, accounting_port, _secret(secret_file))
    try:
        return serve(read_users(users) if users else shipped_users(), Book(directory), [face])
    except (UsersError, BookError) as error:
        raise Failed(str(error), 2) from None
    except CannotListenError as error:
        words = getattr(error.socketError, "strerror", None) or error.socketError
        raise Failed(
            f"cannot listen on {error.interface} port {error.port} (UDP): {words}; give another port or --bind", 2
        ) from None


@simulate.command()
@click.option("--radius", "host", required=True, metavar="HOST", help="What the copiers take for the server: Locum.")
@_auth_port_option
@_accounting_port_option
@_secret_option
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
def copiers(
    host: str,
    auth_port: int,
    accounting_port: int,
    secret_file: Path,
    users: Path | None,
    count: int,
    jobs: int,
    rate: float,
) -> int:
    """Copiers that speak RADIUS.

    They swipe cards, copy, and send every record again until it is acknowledged. Exits 0 if every job was.

    Example: locum simulate copiers --radius 127.0.0.1 --secret-file /tmp/copiers.secret --count 5 --jobs 100
    """
    from twisted.internet.error import CannotListenError

    from appliance.simulator.copier import Target
    from appliance.simulator.lab import LabError, resolved, run_lab
    from appliance.simulator.users import UsersError, read_users, shipped_users

    secret = _secret(secret_file)
    try:
        known = read_users(users) if users else shipped_users()
        target = Target(resolved(host), auth_port, accounting_port, secret)
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
