"""What pysnmp's engine needs to run on Twisted's reactor: a dispatcher that gives it the time, and UDP transports.

pysnmp brings carriers for asyncio only, but its engine has no asyncio in it (`pysnmp.carrier.base`). A transport is one
socket, IPv4 or IPv6. Nothing that arrives or fails here may end the socket or the timer: it is counted, and what pysnmp
raises is a lost datagram, as on any network.
"""

from __future__ import annotations

import socket
import time
from typing import Any

from pysnmp.carrier.asyncio.dgram.udp import DOMAIN_NAME, UdpTransportAddress
from pysnmp.carrier.asyncio.dgram.udp6 import DOMAIN_NAME as DOMAIN_NAME_6
from pysnmp.carrier.asyncio.dgram.udp6 import Udp6TransportAddress
from pysnmp.carrier.base import AbstractTransport, AbstractTransportDispatcher
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from proxy.net.udp import family_of

LARGEST = 65_507
"""Octets of the largest UDP datagram over IPv4."""

log = Logger()

__all__ = ["DOMAIN_NAME", "DOMAIN_NAME_6", "TwistedDispatcher", "UdpTransport"]


class TwistedDispatcher(AbstractTransportDispatcher):  # type: ignore[misc]
    """Time and transports for one SnmpEngine, from when it is made until `close_dispatcher`. `failures` counts what
    went wrong inside pysnmp while it was told the time.
    """

    def __init__(self, reactor: Any) -> None:
        super().__init__()
        self.failures = 0
        self._reactor = reactor
        self._closed = False
        self._timer = reactor.callLater(self.get_timer_resolution(), self._tick)

    def run_dispatcher(self, timeout: float = 0.0) -> None:
        """Nothing: the reactor runs anyway."""

    def close_dispatcher(self) -> None:
        """Stop the timer and close all transports; again is no error."""
        if self._closed:
            return
        self._closed = True
        if self._timer.active():
            self._timer.cancel()
        super().close_dispatcher()

    def _tick(self) -> None:
        self._timer = self._reactor.callLater(self.get_timer_resolution(), self._tick)
        try:
            # pysnmp compares times with each other only, but for those of USM, which are in seconds since 1970.
            self.handle_timer_tick(time.time())
        except Exception as error:  # one request's trouble must not stop the time of all others
            self.failures += 1
            log.debug("SNMP: {error}", error=error)


class UdpTransport(DatagramProtocol, AbstractTransport):  # type: ignore[misc]
    """One socket, of the family of the address that it is opened at. `failed` counts what could not be received, read
    or sent.
    """

    PROTO_TRANSPORT_DISPATCHER = TwistedDispatcher
    ADDRESS_TYPE: type = UdpTransportAddress

    noisy = False
    transport: Any

    def __init__(self, reactor: Any) -> None:
        self.failed = 0
        self._reactor = reactor
        self._port: Any = None

    def open_at(self, address: str = "0.0.0.0", port: int = 0) -> UdpTransport:
        """Bind; port 0 takes any. Raises ValueError for what is no address, Twisted's CannotListenError."""
        if family_of(address) == socket.AF_INET6:
            self.ADDRESS_TYPE = Udp6TransportAddress
        self._port = self._reactor.listenUDP(port, self, address, maxPacketSize=LARGEST)
        return self

    @property
    def local(self) -> tuple[str, int]:
        """The address and port that it has."""
        here = self._port.getHost()
        return here.host, here.port

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        if self._callback_function is None:
            return
        try:
            self._callback_function(self, self.ADDRESS_TYPE(addr), datagram)
        except Exception as error:  # pysnmp raises errors of many kinds for what peers send
            self.failed += 1
            log.debug("SNMP: {error}", error=error)

    def send_message(self, message: bytes, address: Any) -> None:
        """Send a datagram; one that cannot leave is counted, and lost."""
        if self._port is None or self.transport is None:
            self.failed += 1
            return
        try:
            self.transport.write(message, tuple(address)[:2])
        except (OSError, ValueError) as error:
            self.failed += 1
            log.debug("SNMP: {error}", error=error)

    def close_transport(self) -> None:
        """Close the socket; again is no error."""
        port, self._port = self._port, None
        if port is not None:
            port.stopListening()
        AbstractTransport.close_transport(self)
