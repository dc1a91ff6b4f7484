"""FreeRADIUS 3.2 as the Application Server: a config made anew, a child process, its own accounting log read back.

The config is the least that answers: auth and accounting listeners on IPv4 and IPv6, Status-Server, a users file, the
detail module writing every Accounting-Request as text. `cleanup_delay` is 5 s as shipped, so a byte-identical repeat
within about that time is answered from memory and not logged again; one that was built anew is logged again.
`max_requests` is raised because finished logins count against it for those 5 s. Everything is started and ended by
process id.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tests.peers import wire
from tests.peers.ports import LOOPBACK, free_port
from tests.peers.skips import ROOT, need_freeradius, program
from tests.peers.waiting import eventually

DICTIONARY = """\
VENDOR Locum 32473
BEGIN-VENDOR Locum
ATTRIBUTE Locum-Job-Kind 1 integer
ATTRIBUTE Locum-Job-Id 2 string
ATTRIBUTE Locum-Pages 3 integer
ATTRIBUTE Locum-Color-Pages 4 integer
ATTRIBUTE Locum-Sheets 5 integer
ATTRIBUTE Locum-Copies 6 integer
ATTRIBUTE Locum-Duplex 7 integer
ATTRIBUTE Locum-Paper 8 string
ATTRIBUTE Locum-Document 9 string
ATTRIBUTE Locum-Account 10 string
ATTRIBUTE Locum-Unlock-Scope 11 integer
ATTRIBUTE Locum-Record-Id 12 string
END-VENDOR Locum
"""

CONFIG = """\
prefix = /usr
name = radiusd
raddbdir = {home}
confdir = {home}
logdir = {home}
run_dir = {home}
db_dir = {home}
libdir = {libdir}
pidfile = {home}/pid
max_request_time = 30
cleanup_delay = {cleanup_delay}
max_requests = 131072
hostname_lookups = no
log {{
    destination = files
    file = {home}/server.log
    auth = no
}}
security {{
    max_attributes = 200
    reject_delay = 0
    status_server = {status_server}
}}
thread pool {{
    start_servers = 4
    max_servers = 8
    min_spare_servers = 2
    max_spare_servers = 8
    max_requests_per_server = 0
}}
client v4 {{
    ipaddr = 127.0.0.0/8
    secret = "{secret}"
    require_message_authenticator = no
}}
client v6 {{
    ipv6addr = ::1
    secret = "{secret}"
    require_message_authenticator = no
}}
{clients}
modules {{
    always ok {{
        rcode = ok
    }}
    always handled {{
        rcode = handled
    }}
    files {{
        filename = {home}/users
        usersfile = {home}/users
    }}
    detail {{
        filename = {home}/detail
        permissions = 0600
        locking = no
        log_packet_header = yes
    }}
}}
server default {{
{listeners}
    authorize {{
        files
        Autz-Type Status-Server {{
            ok
        }}
    }}
    authenticate {{
    }}
    preacct {{
    }}
    accounting {{
        detail
        ok
    }}
    post-auth {{
    }}
}}
"""

CLIENT = """\
client {name} {{
    {family} = {network}
    secret = "{secret}"
    require_message_authenticator = no
}}
"""

LISTENER = """\
    listen {{
        type = {kind}
        {family} = {host}
        port = {port}
    }}
"""


def dictionary_text() -> str:
    """The vendor dictionary that FreeRADIUS is given: the project's own file if it is there, else the one above."""
    ours = ROOT / "protocols" / "radius" / "dictionary.locum"
    return f"$INCLUDE {ours}\n" if ours.is_file() else DICTIONARY


def library_folder() -> str:
    """Where the distribution keeps FreeRADIUS's modules."""
    for folder in ("/usr/lib/freeradius", "/usr/lib64/freeradius", "/usr/local/lib"):
        if (Path(folder) / "rlm_detail.so").exists():
            return folder
    return "/usr/lib/freeradius"


@dataclass(frozen=True, slots=True)
class Logged:
    """One record in FreeRADIUS's accounting log: when it was written, and its attributes by name as text."""

    written: float
    attributes: Mapping[str, str]
    code: str = ""

    def __getitem__(self, name: str) -> str:
        return self.attributes[name]

    def get(self, name: str, otherwise: str = "") -> str:
        """The attribute's text, or `otherwise`."""
        return self.attributes.get(name, otherwise)


def parse_detail(text: str) -> Iterator[Logged]:
    """The records of a detail file; strings without their quotes, times in seconds since the epoch.

    A record is a line with the time, attribute lines behind a tab, and an empty line. A record that a kill cut short
    has no `Timestamp` line and is left out: the server never answered it.
    """
    attributes: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("\t"):
            name, _, value = line.strip().partition(" = ")
            if value[:1] == value[-1:] == '"':
                value = value[1:-1].replace('\\"', '"').replace("\\\\", "\\")
            attributes.setdefault(name, value)
        elif not line.strip():
            if "Timestamp" in attributes:
                yield Logged(float(attributes.pop("Timestamp")), attributes, attributes.pop("Packet-Type", ""))
            attributes = {}
        else:
            attributes = {}


def seconds_of(event_timestamp: str) -> float:
    """Seconds since the epoch of an Event-Timestamp as FreeRADIUS prints it (`Nov 22 2026 18:00:00 UTC`)."""
    bare, _, _zone = event_timestamp.rpartition(" ")
    return time.mktime(datetime.strptime(bare, "%b %d %Y %H:%M:%S").timetuple())


class FreeRadius:
    """A FreeRADIUS of its own in `home`, always on the same ports.

    `cards` maps User-Name to its users-file entry: a Reply-Message for Accept, None for Reject. Everyone else gets
    `default`: "accept", "reject". It listens on the same two `ports` of every address in `hosts`. `clients`: networks
    that may ask beside this machine, with the same secret.
    """

    def __init__(
        self,
        home: Path,
        *,
        secret: str = "server-secret",
        cards: Mapping[str, str | None] | None = None,
        default: str = "accept",
        status_server: bool = True,
        cleanup_delay: int = 5,
        hosts: Sequence[str] = (LOOPBACK[4], LOOPBACK[6]),
        ports: Sequence[int] | None = None,
        clients: Sequence[str] = (),
    ) -> None:
        self.clients = list(clients)
        self.program = need_freeradius()
        self.home = home
        self.secret = secret.encode()
        self.hosts = list(hosts)
        self.auth_port, self.acct_port = ports or (free_port(), free_port())
        self.process: subprocess.Popen[bytes] | None = None
        home.mkdir(parents=True, exist_ok=True)
        self._write(cards or {}, default, status_server, cleanup_delay)

    def _write(self, cards: Mapping[str, str | None], default: str, status_server: bool, cleanup_delay: int) -> None:
        listeners = "".join(
            LISTENER.format(kind=kind, family=family, host=host, port=port)
            for kind, port in (("auth", self.auth_port), ("acct", self.acct_port))
            for family, host in (("ipv6addr" if ":" in host else "ipaddr", host) for host in self.hosts)
        )
        (self.home / "radiusd.conf").write_text(
            CONFIG.format(
                home=self.home,
                libdir=library_folder(),
                secret=self.secret.decode(),
                listeners=listeners,
                clients="".join(
                    CLIENT.format(
                        name=f"more{number}",
                        family="ipv6addr" if ":" in network else "ipaddr",
                        network=network,
                        secret=self.secret.decode(),
                    )
                    for number, network in enumerate(self.clients)
                ),
                status_server="yes" if status_server else "no",
                cleanup_delay=cleanup_delay,
            )
        )
        (self.home / "dictionary").write_text(dictionary_text())
        users = [
            f'"{card}" Auth-Type := Reject'
            if words is None
            else f'"{card}" Auth-Type := Accept\n    Reply-Message = "{words}", Class = 0x{card.encode().hex()}'
            for card, words in cards.items()
        ]
        users.append("DEFAULT Auth-Type := " + default.capitalize())
        (self.home / "users").write_text("\n\n".join(users) + "\n")

    def start(self) -> FreeRadius:
        """Start it and wait until both ports answer Status-Server."""
        # Below /dev, where files of tests in memory are, it opens a log that is there, and makes none.
        (self.home / "detail").touch(mode=0o600)
        with (self.home / "output").open("ab") as output:
            self.process = subprocess.Popen(
                [self.program, "-f", "-d", str(self.home), "-n", "radiusd", "-l", str(self.home / "server.log")],
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        eventually(self.is_ready, within=15, saying=f"FreeRADIUS answers; see {self.home}/server.log")
        return self

    def is_ready(self) -> bool:
        """Whether both ports answer Status-Server; raises if the process is gone."""
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError("FreeRADIUS ended:\n" + self.complaints())
        return all(self.answers(port) for port in (self.auth_port, self.acct_port))

    def answers(self, port: int, wait: float = 0.2) -> bool:
        """Whether one port answers Status-Server within `wait` seconds."""
        family = socket.AF_INET6 if ":" in self.hosts[0] else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((self.hosts[0], port))
            probe.settimeout(wait)
            request = wire.status_server(self.secret)
            try:
                probe.send(request)
                return wire.is_authentic(probe.recv(4096), request, self.secret)
            except OSError:
                return False

    def complaints(self) -> str:
        """The end of what it logged and printed."""
        files = (self.home / "server.log", self.home / "output")
        return "\n".join(file.read_text(errors="replace")[-3000:] for file in files if file.exists())

    def _signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, number)

    def kill(self) -> None:
        """kill -9: its ports are refused from here on."""
        self._signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(10)

    def black_hole(self) -> None:
        """SIGSTOP: it takes every datagram and says nothing. What queued is worked off by `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT after `black_hole`."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it for good."""
        self.resume()
        self.kill()

    def logged(self) -> list[Logged]:
        """Every record of its accounting log, in the order in which it was written."""
        file = self.home / "detail"
        return list(parse_detail(file.read_text(errors="replace"))) if file.exists() else []

    def log_size(self) -> int:
        """Bytes of the accounting log: cheap to ask again and again."""
        file = self.home / "detail"
        return file.stat().st_size if file.exists() else 0


def version() -> str:
    """The installed version, or an empty string."""
    path = program("freeradius")
    if path is None:
        return ""
    out = subprocess.run([path, "-v"], capture_output=True, text=True, check=False).stdout
    return out.partition("Version ")[2].partition(",")[0]
