"""What the machine gives: the state directory, the ledger, room on the disk, the clock, the addresses to listen on."""

import ctypes
import errno
import os
import socket
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from appliance.check.findings import Finding, error, ok, warning
from appliance.check.running import Place, Running
from appliance.cli.words import size
from appliance.config import Config, ListenConfig, RadiusListenConfig, ReaderConfig, TerminalListenConfig
from appliance.state_dir import LEDGER_NAME, StateDirError, signing_key_there
from storage import space
from storage.database import reading
from storage.errors import LedgerMissing, LedgerTooOld, StorageError
from storage.reader import Reader

EARLIEST_YEAR, LATEST_YEAR = 2026, 2100

_UNSYNCHRONISED = 0x40
"""STA_UNSYNC of adjtimex(2)."""
_IP_FREEBIND = 15
"""ip(7); holds for IPv6 too."""


def findings(config: Config, running: Running | None) -> Iterator[Finding]:
    """`running`: the Locum that works on the state directory now; what it holds is not in anyone's way."""
    yield from _state_dir(config.state_dir, running is not None)
    yield _signing_key(config.state_dir)
    yield from _ledger(config.state_dir)
    yield _disk(config.state_dir, running)
    if running is not None and running.storing_fails:
        text = f"the Locum that runs cannot store ({running.storing_fails}); look into the kernel's log and at the disk"
        yield error("storage", text)
    yield _clock()
    for listen in config.listens:
        own = isinstance(listen, ReaderConfig)
        for place in _ports(listen):
            what = f"listen {place.address} port {place.port}"
            section = "[[reader]]" if own else "[[listen]]"
            yield port_tried(what, place, running, section, elsewhere=config.inline is not None and not own)


def _state_dir(state_dir: Path, running: bool) -> Iterator[Finding]:
    what = "state directory"
    try:
        about = state_dir.stat()
    except FileNotFoundError:
        parent = _nearest(state_dir)
        if os.access(parent, os.W_OK | os.X_OK):
            yield ok(what, f"{state_dir} is not there yet and will be made")
        else:
            yield error(what, f"{state_dir} is not there and this user may not make it; make it or run as root")
        return
    except OSError as problem:
        yield error(what, f"{state_dir} cannot be looked into ({problem.strerror}); run as root or in the group locum")
        return
    if not stat.S_ISDIR(about.st_mode):
        yield error(what, f"{state_dir} is no directory; name another as state_dir in [appliance]")
    elif about.st_mode & 0o007:
        yield error(what, f"{state_dir} is open to everybody; run: chmod o-rwx {state_dir}")
    elif not os.access(state_dir, os.R_OK | os.W_OK | os.X_OK):
        yield error(what, f"{state_dir} may not be written by this user; change its owner or run as root")
    else:
        yield ok(what, f"{state_dir}" + (", a Locum runs on it" if running else ""))


def _signing_key(state_dir: Path) -> Finding:
    what = "signing key"
    try:
        signer = signing_key_there(state_dir)
    except StateDirError as problem:
        return error(what, str(problem))
    if signer is None:
        return ok(what, f"there is none in {state_dir} yet; it will be made")
    return ok(what, f"signs the ledger as installation {signer.installation}")


def _ledger(state_dir: Path) -> Iterator[Finding]:
    file = state_dir / LEDGER_NAME
    try:
        with reading(file) as connection:
            figures = Reader(file, connection).figures()
        entries = "1 entry" if figures.entries == 1 else f"{figures.entries:,} entries"
        yield ok("ledger", f"{file} can be read by this version and has {entries}")
    except LedgerMissing:  # as it should be before the first start
        yield ok("ledger", f"{file} is not there yet and will be made")
    except LedgerTooOld:
        yield ok("ledger", f"{file} was written by an older version and will be migrated, a copy kept")
    except StorageError as problem:
        yield error("ledger", str(problem))


def _disk(state_dir: Path, running: Running | None) -> Finding:
    """By the same levels as the service, which may know better: full for it is full until twice the limit is free."""
    place = _nearest(state_dir)
    try:
        total, free = space.measured(place)
        spare = space.beside_reserve(state_dir, total, free)
    except OSError as problem:
        return error("disk", f"the room at {place} cannot be told ({problem.strerror}); look at how it is mounted")
    level = space.level_of(total, spare)
    if running is not None and running.level == space.Level.FULL.name.lower():
        level = space.Level.FULL
    said = f"{size(max(spare, 0))} of {size(total)} free at {place}"
    match level:
        case space.Level.FULL:
            return error("disk", f"{said}: it is full, and nothing new is kept, acknowledged or granted; make room now")
        case space.Level.VERY_LOW:
            return warning("disk", f"{said}, less than 5 %; make room now")
        case space.Level.LOW:
            return warning("disk", f"{said}, less than 10 %; make room before a long outage needs it")
    return ok("disk", said)


def _clock() -> Finding:
    now = datetime.now(UTC)
    if not EARLIEST_YEAR <= now.year <= LATEST_YEAR:
        return error("clock", f"it says {now:%Y-%m-%d}, which cannot be; set it and run an NTP client")
    synchronised = _synchronised()
    if synchronised is None:
        return warning("clock", f"it says {now:%Y-%m-%d %H:%M:%SZ}; whether it is synchronised cannot be told here")
    if not synchronised:
        return warning("clock", f"it says {now:%Y-%m-%d %H:%M:%SZ} and is not synchronised; run an NTP client")
    return ok("clock", f"it says {now:%Y-%m-%d %H:%M:%SZ} and is synchronised")


def _synchronised() -> bool | None:
    """What the kernel says of its clock, asked with adjtimex(2); None where it may not be asked."""
    about = (ctypes.c_long * 64)()  # struct timex, with room to spare; its first field 0 means: only ask
    try:
        result = ctypes.CDLL(None).adjtimex(ctypes.byref(about))
    except (OSError, AttributeError):
        return None
    # modes, offset, freq, maxerror, esterror, status; each takes a long, alignment included
    return None if result < 0 else not about[5] & _UNSYNCHRONISED


def _ports(listen: ListenConfig) -> list[Place]:
    match listen:
        case RadiusListenConfig():
            return [Place(listen.bind, port, "udp") for port in (listen.auth_port, listen.accounting_port)]
        case TerminalListenConfig() | ReaderConfig():
            return [Place(listen.bind, listen.port, "tcp")]
    return []


def port_tried(what: str, place: Place, running: Running | None, section: str, *, elsewhere: bool = False) -> Finding:
    """Whether a port can be opened, or is open as it should be; `section` is where it is written. `elsewhere`: the
    address may be another machine's, in line.
    """
    family = socket.AF_INET6 if ":" in place.address else socket.AF_INET
    kind = socket.SOCK_STREAM if place.kind == "tcp" else socket.SOCK_DGRAM
    try:
        with socket.socket(family, kind) as tried:
            if kind is socket.SOCK_STREAM:  # connections that ended a moment ago are in nobody's way
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if elsewhere:
                tried.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
            tried.bind((place.address, place.port))
    except OSError as problem:
        return _not_bound(what, problem, place, running, section)
    return ok(what, "is free")


def _not_bound(what: str, problem: OSError, place: Place, running: Running | None, section: str) -> Finding:
    if problem.errno == errno.EADDRINUSE:
        return _in_use(what, running is not None, running.holds(place) if running is not None else False)
    if problem.errno == errno.EACCES:
        return error(what, "may not be opened by this user; run as root or give CAP_NET_BIND_SERVICE")
    if problem.errno == errno.EADDRNOTAVAIL:
        return error(what, f"is no address of this machine (see: ip address); correct bind in {section}")
    return error(what, f"cannot be opened ({problem.strerror}); correct bind in {section}")


def _in_use(what: str, running: bool, own: bool | None) -> Finding:
    """`own`: whether the Locum that runs holds the port; None if it did not say."""
    if own:
        return ok(what, "is in use by the Locum that runs here, as it should be")
    if own is None:
        return warning(what, "is in use, by the Locum that runs here or by another program (see: ss -lntup)")
    other = "another program, not by the Locum that runs here" if running else "another program"
    return error(what, f"is in use by {other} (see: ss -lntup); end it or choose another port")


def _nearest(place: Path) -> Path:
    """`place`, or the nearest directory above it that is there."""
    for each in (place, *place.parents):
        try:
            if each.exists():
                return each
        except OSError:
            continue
    return Path("/")
