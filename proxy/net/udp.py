"""Datagram sockets on the reactor: one kind for devices, one for each server.

A socket bound to a wildcard address answers from the address that was asked (IP_PKTINFO, RFC 3542), for a device
listens to that one only. A socket connected to a server hears of refusals (ICMP unreachable). Ports of Twisted's own do
neither, and cost more a datagram. They have the methods of an IReadDescriptor, which is all that the reactor asks of
them. In line both are transparent (`transparent.py`): a port for devices takes what is for the server, and one towards
a server has a device's address.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from twisted.logger import Logger

from proxy.commands import Source
from proxy.events import Peer
from proxy.net.transparent import bind_as, make_transparent, not_to_be_had

LARGEST = 4097
READ_AT_ONCE = 32
RECEIVE_BUFFER = 4 << 20
SPACE = 64
_IN_PKTINFO = struct.Struct("=I4s4s")
_IN6_PKTINFO = struct.Struct("=16sI")
_REFUSALS = {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EPERM}
_IP_PKTINFO = 8

log = Logger()


def family_of(address: str) -> socket.AddressFamily:
    """The address family of a numeric address. Raises ValueError for anything else."""
    version = ip_address(address.partition("%")[0]).version
    return socket.AF_INET if version == 4 else socket.AF_INET6


def refusal(error: OSError) -> str:
    """What the network said, in words; "" if it was no refusal."""
    words = {errno.ECONNREFUSED: "connection refused", errno.EPERM: "forbidden by a local firewall"}
    number = error.errno or 0
    return words.get(number, (error.strerror or "").lower()) if number in _REFUSALS else ""


class _Port:
    """What both kinds share. `dropped` counts what could not be read or sent."""

    def __init__(self, reactor: Any, family: socket.AddressFamily) -> None:
        self.dropped = 0
        self._reactor = reactor
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._grow(socket.SO_RCVBUF, getattr(socket, "SO_RCVBUFFORCE", 33))
        self._grow(socket.SO_SNDBUF, getattr(socket, "SO_SNDBUFFORCE", 32))

    def _grow(self, option: int, forced: int) -> None:
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, forced, RECEIVE_BUFFER)
        except OSError:
            self._socket.setsockopt(socket.SOL_SOCKET, option, RECEIVE_BUFFER)

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "udp"

    def connectionLost(self, reason: object) -> None:
        """A pending error without data makes epoll report a hang-up: for a datagram socket it is just that error."""
        number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._reactor.addReader(self)
        if number:
            self._failed(OSError(number, os.strerror(number)))

    def close(self) -> None:
        self._reactor.removeReader(self)
        self._socket.close()

    def _failed(self, error: OSError) -> None:
        self.dropped += 1
        log.debug("a datagram socket failed: {error}", error=error)


class DevicePort(_Port):
    """Where devices send to. `received(data, peer)` is called for each datagram. Raises OSError if it cannot bind."""

    def __init__(
        self,
        reactor: Any,
        address: str,
        port: int,
        received: Callable[[bytes, Peer], None],
        *,
        transparent: bool = False,
        largest: int = LARGEST,
    ) -> None:
        family = family_of(address)
        super().__init__(reactor, family)
        self._received = received
        self._largest = largest
        self._v6 = family == socket.AF_INET6
        self._several = transparent or ip_address(address.partition("%")[0]).is_unspecified
        try:
            if self._v6:
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if self._several and self._v6:
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            elif self._several:
                self._socket.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            if transparent:
                make_transparent(self._socket)
                bind_as(self._socket, Source(address, port))
            else:
                self._socket.bind((address, port))
        except OSError:
            self._socket.close()
            raise

    def start(self) -> None:
        self._reactor.addReader(self)

    def doRead(self) -> None:
        for _ in range(READ_AT_ONCE):
            try:
                if self._several:
                    data, ancillary, _, source = self._socket.recvmsg(self._largest, SPACE)
                    peer = (source[0], source[1], self._local(ancillary))
                else:
                    data, source = self._socket.recvfrom(self._largest)
                    peer = (source[0], source[1], "")
            except BlockingIOError:
                return
            except OSError as error:
                self._failed(error)
                return
            self._received(data, peer)

    def send(self, data: bytes, peer: Peer) -> None:
        """Answer `peer`, from the address that it had asked."""
        try:
            if peer[2]:
                self._socket.sendmsg([data], [self._from(peer[2])], 0, peer[:2])
            else:
                self._socket.sendto(data, peer[:2])
        except OSError as error:
            # A datagram that cannot leave is one that was lost on the way: the device asks again.
            self._failed(error)

    def _local(self, ancillary: list[tuple[int, int, bytes]]) -> str:
        for level, kind, data in ancillary:
            if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
                return socket.inet_ntop(socket.AF_INET, _IN_PKTINFO.unpack(data[: _IN_PKTINFO.size])[2])
            if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
                return socket.inet_ntop(socket.AF_INET6, _IN6_PKTINFO.unpack(data[: _IN6_PKTINFO.size])[0])
        return ""

    def _from(self, address: str) -> tuple[int, int, bytes]:
        if self._v6:
            data = _IN6_PKTINFO.pack(socket.inet_pton(socket.AF_INET6, address), 0)
            return socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, data
        return socket.IPPROTO_IP, _IP_PKTINFO, _IN_PKTINFO.pack(0, socket.inet_aton(address), bytes(4))


class ServerPort(_Port):
    """One source port towards a server. `refused(text)` is called when the network says that nobody is there.

    `source`: the device's address and port that it was given in line; `elsewhere`: another port of that address was
    taken, for the device's own could not be had. Raises OSError if there is no socket to be had.
    """

    def __init__(
        self,
        reactor: Any,
        address: str,
        port: int,
        received: Callable[[bytes], None],
        refused: Callable[[str], None],
        source: Source | None = None,
        largest: int = LARGEST,
    ) -> None:
        super().__init__(reactor, family_of(address))
        self.elsewhere = False
        self.source = source
        self._largest = largest
        self._received = received
        self._refused = refused
        self._to = (address, port)
        self._connected = False
        if source is not None:
            self._bind_as(source)
        self._connect()
        reactor.addReader(self)

    def doRead(self) -> None:
        for _ in range(READ_AT_ONCE):
            try:
                data = self._socket.recv(self._largest)
            except BlockingIOError:
                return
            except OSError as error:
                self._failed(error)
                return
            self._received(data)

    def send(self, data: bytes) -> None:
        """Send to the server. A refusal of an earlier datagram that surfaces here does not cost this one."""
        try:
            if not self._connected and not self._connect():
                return
            self._socket.send(data)
        except BlockingIOError:
            self.dropped += 1
        except OSError as error:
            self._failed(error)
            if error.errno == errno.ECONNREFUSED:
                self._send_anyway(data)

    def _bind_as(self, source: Source) -> None:
        try:
            make_transparent(self._socket)
            try:
                bind_as(self._socket, source)
            except OSError as error:
                if not not_to_be_had(error, source):
                    raise
                self.elsewhere = True
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
                bind_as(self._socket, Source(source.address))
        except OSError:
            self._socket.close()
            raise

    def _send_anyway(self, data: bytes) -> None:
        try:
            self._socket.send(data)
        except OSError:
            self.dropped += 1

    def _connect(self) -> bool:
        """Without a route there is no connection; it is tried again with each datagram."""
        try:
            self._socket.connect(self._to)
        except OSError as error:
            self._failed(error)
            return False
        self._connected = True
        return True

    def _failed(self, error: OSError) -> None:
        text = refusal(error)
        if text:
            self._refused(text)
        else:
            super()._failed(error)
