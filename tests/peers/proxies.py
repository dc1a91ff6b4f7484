"""The peers that do part of what Locum does: FreeRADIUS 3.2 as a proxy with fallback and buffer, and pyrad's proxy.

FreeRADIUS follows its own `robust-proxy-accounting`: logins fall back to a virtual server that accepts, accounting to
a detail file that a reader drains. `eager` sets every timer to the least that it takes; otherwise they are as
shipped. pyrad's `Proxy` leaves the forwarding to whoever uses it; what is added here is the least that RFC 2865 §2.3
wants.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.peers.child import Child
from tests.peers.freeradius import FreeRadius, dictionary_text, library_folder
from tests.peers.locum import COPIER_SECRET
from tests.peers.ports import LOOPBACK, free_port
from tests.peers.skips import need_freeradius, need_pyrad
from tests.peers.waiting import eventually

PROXY_CONFIG = """\
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
    status_server = yes
}}
proxy_requests = yes
proxy server {{
    default_fallback = no
}}
home_server hq_auth {{
    type = auth
    ipaddr = 127.0.0.1
    port = {auth}
    secret = "{server_secret}"
    {timers}
}}
home_server hq_acct {{
    type = acct
    ipaddr = 127.0.0.1
    port = {acct}
    secret = "{server_secret}"
    {timers}
}}
home_server spare_auth {{
    virtual_server = spare_auth
}}
home_server spare_acct {{
    virtual_server = spare_acct
}}
home_server_pool auth_pool {{
    type = fail-over
    home_server = hq_auth
    fallback = spare_auth
}}
home_server_pool acct_pool {{
    type = fail-over
    home_server = hq_acct
    fallback = spare_acct
}}
realm hq {{
    auth_pool = auth_pool
    acct_pool = acct_pool
    nostrip
}}
thread pool {{
    start_servers = 5
    max_servers = 32
    min_spare_servers = 3
    max_spare_servers = 10
    max_requests_per_server = 0
}}
client copiers {{
    ipaddr = 127.0.0.0/8
    secret = "{secret}"
    require_message_authenticator = no
}}
modules {{
    always ok {{
        rcode = ok
    }}
    detail {{
        filename = {home}/waiting
        permissions = 0600
        locking = yes
    }}
}}
server default {{
    listen {{
        type = auth
        ipaddr = 127.0.0.1
        port = {front_auth}
    }}
    listen {{
        type = acct
        ipaddr = 127.0.0.1
        port = {front_acct}
    }}
    authorize {{
        update control {{
            Proxy-To-Realm := "hq"
        }}
    }}
    authenticate {{
    }}
    preacct {{
        update control {{
            Proxy-To-Realm := "hq"
        }}
    }}
    accounting {{
        ok
    }}
}}
server spare_auth {{
    authorize {{
        update control {{
            Auth-Type := Accept
        }}
    }}
    authenticate {{
    }}
}}
server spare_acct {{
    accounting {{
        detail
    }}
}}
server drain {{
    listen {{
        type = detail
        filename = {home}/waiting
        load_factor = 90
        poll_interval = 1
        retry_interval = 5
        track = yes
    }}
    preacct {{
        update control {{
            Proxy-To-Realm := "hq"
        }}
    }}
    accounting {{
        ok
    }}
}}
"""

SHIPPED = """\
response_window = 20
    zombie_period = 40
    status_check = status-server
    check_interval = 30
    check_timeout = 4
    num_answers_to_alive = 3
    max_outstanding = 65536"""
EAGER = """\
response_window = 1
    zombie_period = 1
    status_check = status-server
    check_interval = 6
    check_timeout = 1
    num_answers_to_alive = 3
    max_outstanding = 65536"""


class FreeRadiusProxy:
    """FreeRADIUS between copiers and a server, with what it has for outages."""

    def __init__(self, home: Path, server: Any, *, eager: bool = True, cleanup_delay: int = 5) -> None:
        self.home, self.secret, self.hosts = home, COPIER_SECRET, [LOOPBACK[4]]
        self.auth_port, self.acct_port = free_port(), free_port()
        self.program = need_freeradius()
        home.mkdir(parents=True, exist_ok=True)
        (home / "dictionary").write_text(dictionary_text())
        (home / "radiusd.conf").write_text(
            PROXY_CONFIG.format(
                home=home,
                libdir=library_folder(),
                auth=server.auth_port,
                acct=server.acct_port,
                server_secret=server.secret.decode(),
                secret=self.secret.decode(),
                front_auth=self.auth_port,
                front_acct=self.acct_port,
                timers=EAGER if eager else SHIPPED,
                cleanup_delay=cleanup_delay,
            )
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> FreeRadiusProxy:
        """Start it and wait until it answers Status-Server."""
        with (self.home / "output").open("ab") as output:
            self.process = subprocess.Popen(
                [self.program, "-f", "-d", str(self.home), "-n", "radiusd", "-l", str(self.home / "server.log")],
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        eventually(self._is_ready, within=15, saying=f"the proxy answers; see {self.home}")
        return self

    def _is_ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError("the proxy ended:\n" + FreeRadius.complaints(self))  # type: ignore[arg-type]
        return FreeRadius.answers(self, self.auth_port)  # type: ignore[arg-type]

    def stop(self) -> None:
        """End it."""
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait(10)


class PyradProxy(Child):
    """pyrad's proxy in a process of its own. It knows one secret an address, so copiers use the server's."""

    def __init__(self, server: Any) -> None:
        need_pyrad()
        self.secret: bytes = server.secret
        self.auth_port, self.acct_port = free_port(), free_port()
        super().__init__(
            "tests.peers.proxies",
            [
                str(self.auth_port),
                str(self.acct_port),
                str(server.auth_port),
                str(server.acct_port),
                self.secret.decode(),
            ],
        )


def _pyrad_main(front_auth: int, front_acct: int, auth: int, acct: int, secret: bytes) -> None:
    import io
    import logging
    from collections import OrderedDict

    from pyrad import packet
    from pyrad.dictionary import Dictionary
    from pyrad.proxy import Proxy
    from pyrad.server import RemoteHost

    from tests.peers.child import Commands

    logging.disable(logging.CRITICAL)

    def copy_attributes(source: Any, target: Any) -> None:
        for key, value in OrderedDict.items(source):
            if key != 80:
                OrderedDict.__setitem__(target, key, value)

    class Forwarder(Proxy):  # type: ignore[misc]
        """Own identifiers towards the server, the client's request remembered by them."""

        turn = -1
        pending: dict[int, Any] = {}  # noqa: RUF012 - there is one of it

        def _forward(self, pkt: Any, port: int, made: Any) -> None:
            self.turn = made.id = (self.turn + 1) % 256
            copy_attributes(pkt, made)
            self.pending[made.id] = (pkt, made)
            self._proxyfd.sendto(made.RequestPacket(), (LOOPBACK[4], port))

        def HandleAuthPacket(self, pkt: Any) -> None:
            made = packet.AuthPacket(secret=secret, dict=self.dict, authenticator=pkt.authenticator)
            made.add_message_authenticator()
            self._forward(pkt, auth, made)

        def HandleAcctPacket(self, pkt: Any) -> None:
            self._forward(pkt, acct, packet.AcctPacket(secret=secret, dict=self.dict))

        def _HandleProxyPacket(self, pkt: Any) -> None:
            Proxy._HandleProxyPacket(self, pkt)
            request, made = self.pending.pop(pkt.id)
            if not made.VerifyReply(pkt):
                return
            answer = self.CreateReplyPacket(request)
            answer.code = pkt.code
            copy_attributes(pkt, answer)
            self.SendReplyPacket(request.fd, answer)

    hosts = {LOOPBACK[4]: RemoteHost(LOOPBACK[4], secret, "everyone", auth, acct)}
    proxy = Forwarder(
        addresses=[LOOPBACK[4]], authport=front_auth, acctport=front_acct, hosts=hosts, dict=Dictionary(io.StringIO(""))
    )
    Commands.answer(ready=True)
    with contextlib.suppress(KeyboardInterrupt):
        proxy.Run()


if __name__ == "__main__":
    ports = [int(each) for each in sys.argv[1:5]]
    _pyrad_main(ports[0], ports[1], ports[2], ports[3], sys.argv[5].encode())
