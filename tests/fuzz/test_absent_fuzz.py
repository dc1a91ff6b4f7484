"""Any frames on either side while Locum speaks as copiers: an answer for one of them is only ever the declared one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from protocols.neighbours import arp, ethernet, ndp
from proxy.commands import SendFrame, Side
from proxy.events import FrameReceived, Moment, Ticked
from proxy.link import Clock, Link
from proxy.neighbours import Guarded, Neighbours
from tests.fuzz.test_neighbours_fuzz import CLIENTS, KNOWN, SERVERS, SETTINGS, STATIONS, V4, V6, any_frames

COPIERS = ("10.9.0.1", "fd00:9::1")
ASKED = [
    (Side.SERVERS, arp.question(STATIONS[1], V4[1], V4[0], None)),
    (Side.SERVERS, ndp.solicitation(STATIONS[1], V6[1], V6[0], None)),
]
steps = st.one_of(
    st.tuples(st.sampled_from(Side), any_frames),
    st.sampled_from([*ASKED, 0.05, 0.2, 0.4, 3.0]),
)
histories = st.builds(
    lambda begin, rest: [*begin, *rest],
    st.sampled_from([[], KNOWN, [*KNOWN, *ASKED]]),
    st.lists(st.one_of(steps, steps, st.sampled_from([*ASKED, 0.4])), max_size=25),
)
somebody: st.SearchStrategy[Callable[[], tuple[str, ...]]] = st.sampled_from([lambda: COPIERS, tuple])


@SETTINGS
@given(histories, somebody)
def test_only_who_is_spoken_as_is_answered_for_and_only_to_a_server(
    history: list[Any], spoken_as: Callable[[], tuple[str, ...]]
) -> None:
    now = 100.0
    link = Link("hq", 2.0, Clock("boot", 0), proven=True, began=Moment(now, 0, bytes(32)))
    memory: dict[str, str] = {}
    flow = Neighbours(memory.get, (), spoken_as)
    flow.configure([Guarded(link, address, CLIENTS) for address in SERVERS])
    stations: set[bytes] = set()
    heard: dict[str, set[bytes]] = {}
    for step in history:
        commands = []
        if isinstance(step, tuple):
            side, data = step
            commands = flow.handle(FrameReceived(side, data, Moment(now, 0, bytes(32))))
            assert not any(isinstance(command, SendFrame) for command in commands), "a frame was answered at once"
            stations |= {each.mac for each in flow.presences() if each.mac is not None}
            if side is Side.COPIERS:
                heard = {copier: heard.get(copier, set()) | _macs(data) for copier in COPIERS}
        else:
            until = now + step
            while now < until:
                now += 0.05
                commands += flow.handle(Ticked(Moment(now, 0, bytes(32))))
        for command in commands:
            if not isinstance(command, SendFrame):
                continue
            assert spoken_as() == COPIERS
            frame = ethernet.parse(command.data)
            if command.side is Side.COPIERS:
                assert frame.source in stations, "a question in its asker's name"
                continue
            assert frame.target in stations
            if frame.kind == ethernet.ARP:
                reply = arp.parse(frame.payload)
                about, mac, to = str(reply.sender), reply.sender_mac, str(reply.target)
                assert reply.operation == arp.REPLY
            else:
                message = ndp.parse(frame.payload)
                assert message.kind == ndp.ADVERTISEMENT
                about, mac, to = str(message.wanted), message.mac or b"", str(message.target)
            assert about in COPIERS
            assert mac in heard[about]
            assert mac == frame.source != frame.target
            assert to != "0.0.0.0"
            assert to != about


def _macs(data: bytes) -> set[bytes]:
    """All MAC addresses that a frame may say that its sender has."""
    return {data[at : at + 6] for at in range(max(0, len(data) - 5))}
