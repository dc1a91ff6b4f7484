"""Machines whose interface is in a VLAN, and taps that show tags; in network namespaces, for kernels without 8021q.

All that such a machine sends has the tag, and only frames with its tag come in. It is done by eBPF on its interface:
what puts the tag on is the appliance's own program, what it makes of a frame is seen by the taps.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from scapy.layers.l2 import Dot1AD, Dot1Q, Ether

from appliance.inline import tags
from appliance.inline.kernel import kernel
from tests.e2e.in_line import PACKET_OUTGOING, SOL_PACKET, Tap, listening
from tests.peers.netns import Wire

PACKET_AUXDATA = 8
AUXDATA = struct.Struct("=IIIHHHH")
VLAN_VALID, TPID_VALID = 1 << 4, 1 << 6
VLAN_TCI, DROP, GO_ON = 24, 2, -1


def put_in_vlan(line: Wire, namespace: str, interface: str, vlans: Sequence[int], tag: str = "") -> None:
    """`vlans`: whose frames it takes in. `tag`: rules of nft that say which of them what is sent gets, as `vlan(n)`;
    without, it gets the first.
    """
    lines = tag or f"meta protocol {{ ip, ip6, arp }} meta priority set {vlan(vlans[0])}"
    chain = f'type filter hook egress device "{interface}" priority 0;\n{lines}'
    line.run(namespace, ["nft", "-f", "-"], input=f"table netdev in_vlan {{\nchain out {{\n{chain}\n}}\n}}\n")
    with line.inside(namespace), kernel() as at_kernel:
        at_kernel.attach(interface, (("in", takes_in(vlans)), ("out", tags.PUT_ON)))


def vlan(number: int) -> str:
    """As the appliance's rules write it: EtherType and VLAN."""
    return f"{tags.DOT1Q:x}:{number:x}"


def takes_in(vlans: Sequence[int]) -> list[tags.Instruction]:
    """Frames of these VLANs come in without their tag, others do not."""
    chosen = [(0x15, 2, 0, len(vlans) - number + 1, each) for number, each in enumerate(vlans)]
    begin = [(0x61, 2, 1, VLAN_TCI, 0), (0x57, 2, 0, 0, 0x0FFF)]
    drop = [(0xB7, 0, 0, 0, DROP), (0x95, 0, 0, 0, 0)]
    return [*begin, *chosen, *drop, (0x85, 0, 0, 0, 19), (0xB7, 0, 0, 0, GO_ON), (0x95, 0, 0, 0, 0)]


class TagTap(Tap):
    """A tap whose frames have the tag that the kernel took off, or has yet to put on."""

    def frames(self) -> list[Ether]:
        while True:
            try:
                data, beside, _, about = self.socket.recvmsg(0xFFFF, socket.CMSG_SPACE(AUXDATA.size))
            except BlockingIOError:
                return self.all_seen()
            except OSError as error:
                # Said once, when the interface goes down.
                if error.errno != errno.ENETDOWN:
                    raise
                continue
            self.seen.append(Ether(_whole(data, beside)))
            if about[2] != PACKET_OUTGOING:
                self.came.append(self.seen[-1])


def _whole(data: bytes, beside: list[tuple[int, int, bytes]]) -> bytes:
    for _, _, content in beside:
        status, _, _, _, _, tag, kind = AUXDATA.unpack_from(content)
        if status & VLAN_VALID:
            return data[:12] + struct.pack("!HH", kind if status & TPID_VALID else 0x8100, tag) + data[12:]
    return data


@contextmanager
def tag_tap(line: Wire, namespace: str, interface: str) -> Iterator[TagTap]:
    with listening(line, namespace, interface) as opened:
        opened.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        yield TagTap(opened)


def tags_of(frame: Ether) -> list[tuple[int, int, int]]:
    """EtherType, priority and VLAN of each tag, the outer one first."""
    found, kind = [], frame.type
    layer = frame.payload
    while isinstance(layer, (Dot1Q, Dot1AD)):
        found.append((kind, layer.prio, layer.vlan))
        kind, layer = layer.type, layer.payload
    return found
