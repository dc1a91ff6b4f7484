"""The simulated server's PaperCut face: the Web Services at `/rpc/api/xmlrpc`, `/api/health`, and a page at `/`.

HTTP/1.1 with kept connections, with TLS on a port of its own. Who may call is decided by address and then by token,
and both refusals are faults over HTTP 200. A call is answered once what it did is on stable storage. The switches for
tests replace an answer here.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

from appliance import __version__
from appliance.simulator.book import BookError
from appliance.simulator.http import LARGEST_REQUEST, Exchange, HttpFactory
from appliance.simulator.page import write_page
from appliance.simulator.server import ApplicationServer
from appliance.simulator.switches import Switches
from appliance.simulator.webservices import Refused, WebServices
from appliance.simulator.xmlrpc import Call, NotACall, read_call, write_fault, write_value

HUGE = 16 << 20
HTML, TEXT, JSON = "text/html; charset=utf-8", "text/plain; charset=utf-8", "application/json"
NOTHING_ACTIVE = [("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'")]
SIGN_IN = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body><h1>Sign in</h1></body></html>\n"

Network = IPv4Network | IPv6Network
Terminals = Callable[[], Iterable[Sequence[object]]]


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call: from these networks, with one of these tokens."""

    networks: tuple[Network, ...]
    tokens: tuple[str, ...] = field(repr=False)

    def allows(self, host: str) -> bool:
        """Whether the address may call."""
        address = ip_address(host.partition("%")[0])
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self.networks)


class PapercutFace:
    """`port` and `tls_port` may be None; `tls` is Twisted's context factory for the latter."""

    def __init__(
        self, bind: str, port: int | None, tls_port: int | None, tls: Any, access: Access, terminals: Terminals
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._access = access
        self._terminals = terminals
        self._bind = bind
        self._port = port
        self._tls_port = tls_port
        self._tls = tls

    def listen(self, server: ApplicationServer, reactor: Any) -> str:
        """Open the ports. Raises CannotListenError."""
        site = Site(self.counts, self._access, self._terminals, server)
        factory = HttpFactory(reactor, site.handle)
        places = []
        if self._port is not None:
            port = reactor.listenTCP(self._port, factory, interface=self._bind, backlog=512)
            places.append(f"{port.getHost().port}")
        if self._tls_port is not None:
            port = reactor.listenSSL(self._tls_port, factory, self._tls, interface=self._bind, backlog=512)
            places.append(f"{port.getHost().port} (TLS)")
        return f"PaperCut's Web Services at {self._bind}, port {' and '.join(places)}, token {self._access.tokens[0]}"

    def summary(self) -> str:
        """How often it did what."""
        told = ", ".join(f"{count} {what}" for what, count in sorted(self.counts.items()))
        return f"Web Services: {told or 'nothing'}"


class Site:
    """What is at which path."""

    def __init__(self, counts: Counter[str], access: Access, terminals: Terminals, server: ApplicationServer) -> None:
        self._counts = counts
        self._access = access
        self._terminals = terminals
        self._server = server
        self._services = WebServices(server.state, access.tokens, lambda: server.switches)
        self._places: dict[tuple[str, str], Callable[[Exchange], None]] = {
            ("POST", "/rpc/api/xmlrpc"): self._call,
            ("GET", "/api/health"): self._health,
            ("GET", "/"): self._page,
            ("HEAD", "/"): self._page,
        }

    def handle(self, exchange: Exchange) -> None:
        """Answer one request, now or later."""
        place = self._places.get((exchange.method, exchange.path))
        if place is not None:
            place(exchange)
        elif any(path == exchange.path for _, path in self._places):
            exchange.answer(b"this method has no place here\n", TEXT, 405)
        else:
            exchange.answer(b"there is nothing here\n", TEXT, 404)

    def _call(self, exchange: Exchange) -> None:
        switches = self._server.switches
        try:
            call = read_call(_body(exchange))
        except NotACall as error:
            self._counts["garbage"] += 1
            exchange.answer(write_fault(f"java.io.IOException: the request cannot be read ({error})"))
            return
        switched = switches.only in ("", call.method)
        if switched and switches.answer not in ("", "half-xml"):
            self._misbehave(exchange, switches)
            return
        body = self._do(call, exchange.peer, switches)
        if switched and switches.answer == "half-xml":
            body = body[: len(body) // 2]
        late = switches.answer_late if switched else 0.0
        self._server.settle(lambda kept: self._finish(exchange, body, kept, late))

    def _do(self, call: Call, host: str, switches: Switches) -> bytes:
        try:
            if switches.refuse_address or not self._access.allows(host):
                raise Refused("lang.SecurityException", f"calls from {host} are not allowed")
            body = write_value(self._services.call(call))
        except Refused as refused:
            self._counts["faults"] += 1
            return write_fault(str(refused))
        self._counts["calls"] += 1
        return body

    def _finish(self, exchange: Exchange, body: bytes, kept: bool, late: float) -> None:
        if not kept:
            exchange.hang_up()
        elif late:
            self._server.reactor.callLater(late, exchange.answer, body)
        else:
            exchange.answer(body)

    def _misbehave(self, exchange: Exchange, switches: Switches) -> None:
        """What is answered without the call being done; `never` leaves the request open."""
        self._counts[f"answered {switches.answer}"] += 1
        if switches.answer == "huge":
            exchange.answer(write_value("x" * HUGE))
        elif switches.answer != "never":
            exchange.answer(SIGN_IN, HTML, 200 if switches.answer == "html" else int(switches.answer))

    def _health(self, exchange: Exchange) -> None:
        """The key is the token."""
        if exchange.headers.get("authorization", "") not in self._access.tokens:
            exchange.answer(b'{"error": "the key is wrong"}\n', JSON, 401)
        else:
            info = {"systemInfo": {"version": f"Locum {__version__}"}}
            told = {"applicationServer": info, "database": {"status": "OK"}}
            exchange.answer(json.dumps(told).encode() + b"\n", JSON)

    def _page(self, exchange: Exchange) -> None:
        if not self._access.allows(exchange.peer):
            exchange.answer(b"this address is not allowed\n", TEXT, 403)
            return
        try:
            page = write_page(self._server.state, self._server.book.directory, self._terminals())
        except BookError as error:
            exchange.answer(f"{error}\n".encode(), TEXT, 500)
        else:
            exchange.answer(page, HTML, more=NOTHING_ACTIVE)


def _body(exchange: Exchange) -> bytes:
    """The body, unpacked if it is gzip. Raises NotACall."""
    if exchange.headers.get("content-encoding") != "gzip":
        return exchange.body
    try:
        unpacking = zlib.decompressobj(31)
        unpacked = unpacking.decompress(exchange.body, LARGEST_REQUEST)
    except zlib.error as error:
        raise NotACall(f"no gzip: {error}") from None
    if not unpacking.eof:
        raise NotACall("the gzip data is cut short or too long")
    return unpacked
