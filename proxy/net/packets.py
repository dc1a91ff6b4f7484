"""Ethernet frames on one interface, by a packet socket (packet(7)), with a filter in the kernel.

What comes up is what the flow watches, and only what came in: the filter is a program of classic BPF (the kernel's
Documentation/networking/filter.rst), made here. The kernel takes a frame's outer 802.1Q tag off before the filter and
hands it beside the frame; it is put back. The socket is bound to every EtherType, for one bound to ARP alone sees
nothing on a port of a bridge.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from twisted.logger import Logger

from protocols.neighbours.ethernet import ARP, IPV4, IPV6
from protocols.neighbours.ndp import ADVERTISEMENT, ICMPV6, SOLICITATION
from proxy.commands import WatchFrames

LARGEST = 1518
READ_AT_ONCE = 32

Instruction = tuple[int, int, int, int]
Condition = tuple[int, int, int]

_ETH_P_ALL = 3
_SOL_PACKET, _PACKET_AUXDATA, _PACKET_IGNORE_OUTGOING = 263, 8, 23
_SO_ATTACH_FILTER = 26
_AUXDATA = struct.Struct("=IIIHHHH")
_VLAN_VALID, _TPID_VALID = 1 << 4, 1 << 6
_DOT1Q = 0x8100
_FILTER = struct.Struct("=HBBI")
_PROGRAM = struct.Struct("HP")

_WORD, _HALF, _OCTET = 0x20, 0x28, 0x30
_JUMP, _JUMP_IF_EQUAL, _RETURN = 0x05, 0x15, 0x06
_PACKET_TYPE = 0xFFFFF000 + 4
_OUTGOING = 4

_TO, _FROM, _KIND, _NEXT_HEADER, _ICMP_TYPE = 0, 6, 12, 20, 54
_ARP_SENDER, _ARP_TARGET, _IPV4_SOURCE, _IPV6_SOURCE, _NDP_WANTED = 28, 38, 26, 22, 62
_TAKE: Instruction = (_RETURN, 0, 0, LARGEST)
_LEAVE: Instruction = (_RETURN, 0, 0, 0)
_NEIGHBOUR_OR_LEAVE: list[Instruction] = [
    (_OCTET, 0, 0, _NEXT_HEADER),
    (_JUMP_IF_EQUAL, 1, 0, ICMPV6),
    _LEAVE,
    (_OCTET, 0, 0, _ICMP_TYPE),
    (_JUMP_IF_EQUAL, 2, 0, SOLICITATION),
    (_JUMP_IF_EQUAL, 1, 0, ADVERTISEMENT),
    _LEAVE,
]

log = Logger()


def program(
    addresses: Collection[bytes],
    stations: Collection[bytes],
    senders: Collection[bytes] = (),
    partners: Collection[bytes] = (),
) -> list[Instruction]:
    """The filter for what `WatchFrames` says: frames that came in, from a station, or of ARP and neighbour discovery
    and from or about an address, or from or to a partner, or of IP from a sender. Each instruction is code, the two
    jumps, and the operand.

    Kept short, for a socket has little memory for it (net.core.optmem_max): 20 KB hold ten IPv6 addresses.
    """
    v4 = sorted(each for each in addresses if len(each) == 4)
    v6 = sorted(each for each in addresses if len(each) == 16)
    made = _where([(_OCTET, _PACKET_TYPE, _OUTGOING)], _LEAVE)
    for mac in sorted(stations):
        made += _where(_octets(_FROM, mac), _TAKE)
    for sender in sorted(senders):
        kind, place = (IPV4, _IPV4_SOURCE) if len(sender) == 4 else (IPV6, _IPV6_SOURCE)
        made += _where([(_HALF, _KIND, kind), *_octets(place, sender)], _TAKE)
    between = [_where(_octets(place, each), _TAKE) for place in (_TO, _FROM) for each in sorted(partners)]
    about = [_where(_octets(place, each), _TAKE) for place in (_ARP_SENDER, _ARP_TARGET) for each in v4]
    made += _of_kind(ARP, [*between, *about])
    about = [_where(_octets(place, each), _TAKE) for place in (_IPV6_SOURCE, _NDP_WANTED) for each in v6]
    return [*made, *_of_kind(IPV6, [_NEIGHBOUR_OR_LEAVE, *between, *about]), _LEAVE]


def _octets(place: int, octets: bytes) -> list[Condition]:
    """That these octets, an even number, stand at this place of the frame."""
    pieces = [(at, octets[at : at + 4]) for at in range(0, len(octets), 4)]
    return [(_WORD if len(each) == 4 else _HALF, place + at, int.from_bytes(each, "big")) for at, each in pieces]


def _where(conditions: Sequence[Condition], then: Instruction) -> list[Instruction]:
    """`then` if all conditions hold; else go on behind it."""
    made: list[Instruction] = []
    for number, (load, place, value) in enumerate(conditions, 1):
        behind = 2 * (len(conditions) - number) + 1
        made += [(load, 0, 0, place), (_JUMP_IF_EQUAL, 0, behind, value)]
    return [*made, then]


def _of_kind(kind: int, blocks: Iterable[list[Instruction]]) -> list[Instruction]:
    """These blocks for frames of this EtherType, which are left behind them; others go on."""
    inside = [instruction for block in blocks for instruction in block]
    over = len(inside) + 1
    return [(_HALF, 0, 0, _KIND), (_JUMP_IF_EQUAL, 1, 0, kind), (_JUMP, 0, 0, over), *inside, _LEAVE]


def attach(to: socket.socket, instructions: list[Instruction]) -> None:
    """Filter what this socket receives from now on. Raises OSError."""
    packed = b"".join(_FILTER.pack(*each) for each in instructions)
    buffer = ctypes.create_string_buffer(packed, len(packed))
    to.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, _PROGRAM.pack(len(instructions), ctypes.addressof(buffer)))


class FramePort:
    """Frames of one interface; `received(data)` is called for each that is watched, at first none.

    `dropped` counts what could not be read or sent; `mark`: on what is sent (SO_MARK). Raises OSError, with words, if
    there is no such interface or this process may not do it.
    """

    def __init__(self, reactor: Any, interface: str, received: Callable[[bytes], None], mark: int = 0) -> None:
        self.dropped = 0
        self._reactor = reactor
        self._interface = interface
        self._received = received
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        except PermissionError as error:
            text = f"frames on {interface} cannot be read or sent: this takes CAP_NET_RAW"
            raise PermissionError(errno.EPERM, text) from error
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
            # The filter would leave them too, after the kernel has copied each.
            self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            attach(self._socket, program((), ()))
            if mark:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            self._socket.bind((interface, _ETH_P_ALL))
        except OSError as error:
            self._socket.close()
            if error.errno == errno.ENODEV:
                raise OSError(errno.ENODEV, f"there is no interface {interface}; see 'ip link'") from error
            raise
        reactor.addReader(self)

    def watch(self, wanted: WatchFrames) -> None:
        """A filter that the kernel has no room for is told, and the one before stays."""
        try:
            attach(self._socket, program(wanted.addresses, wanted.stations, wanted.senders, wanted.partners))
        except OSError as error:
            text = "no filter for {number} addresses on {interface} ({error}); raise net.core.optmem_max"
            log.warn(text, number=len(wanted.addresses), interface=self._interface, error=error.strerror)

    def send(self, data: bytes) -> None:
        """Send a frame as it is."""
        try:
            self._socket.send(data)
        except OSError as error:
            self._failed(error)

    def close(self) -> None:
        self._reactor.removeReader(self)
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "frames"

    def doRead(self) -> None:
        for _ in range(READ_AT_ONCE):
            try:
                data, ancillary, _, _ = self._socket.recvmsg(LARGEST, socket.CMSG_SPACE(_AUXDATA.size))
            except BlockingIOError:
                return
            except OSError as error:
                self._failed(error)
                return
            self._received(_tagged(data, ancillary))

    def connectionLost(self, reason: object) -> None:
        """The interface went down, which epoll reports as an error: it is read again when it is up."""
        self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._reactor.addReader(self)

    def _failed(self, error: OSError) -> None:
        self.dropped += 1
        log.debug("frames on {interface}: {error}", interface=self._interface, error=error)


def _tagged(data: bytes, ancillary: list[tuple[int, int, bytes]]) -> bytes:
    """The frame with the tag that the kernel took off it."""
    for level, kind, content in ancillary:
        if level == _SOL_PACKET and kind == _PACKET_AUXDATA and len(content) >= _AUXDATA.size:
            status, _, _, _, _, tag, protocol = _AUXDATA.unpack_from(content)
            if status & _VLAN_VALID:
                kind = protocol if status & _TPID_VALID else _DOT1Q
                return data[:12] + struct.pack("!HH", kind, tag) + data[12:]
    return data
