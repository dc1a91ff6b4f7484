"""The kernel's rules take what the appliance tells them of MAC addresses, and nobody else's word."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from appliance.inline.rules import TABLE, bridge_rules
from proxy.net.transparent import MARK
from tests.peers.skips import ROOT, need_root
from tests.unit.test_inline_rules import BRIDGE, FLOWS, MAC, in_a_namespace

TELL = """
import sys
from ipaddress import ip_address
sys.path.insert(0, {root!r})
from proxy.lessons import Lessons
from proxy.net.packets import FramePort

class Reactor:
    def addReader(self, reader): pass

port = FramePort(Reactor(), "lo", lambda data: None, {mark})
for told in {told!r}:
    lessons = Lessons()
    for address, mac, vlan in told:
        lessons.learn(ip_address(address), bytes.fromhex(mac), vlan)
    for command in lessons.all():
        port.send(command.data)
assert not port.dropped
"""


def maps_after(told: list[list[tuple[str, str, int]]], mark: int = MARK) -> dict[str, str]:
    """What the maps of MAC addresses have then."""
    need_root()
    code = TELL.format(root=str(ROOT), mark=mark, told=told)
    rules = bridge_rules(BRIDGE, FLOWS, MAC)
    listing = "; ".join(f"nft -j list map netdev {TABLE} mac{version}" for version in (4, 6))
    commands = f"ip link set lo up\nnft -f - <<A\n{rules}A\n{sys.executable} - <<'B'\n{code}B\n{listing}"
    done = in_a_namespace(commands)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = {}
    for text in done.stdout.splitlines():
        listed: list[dict[str, Any]] = json.loads(text)["nftables"]
        for key, mac in next(each["map"] for each in listed if "map" in each).get("elem", []):
            found[key["elem"]["val"]] = mac
    return found


@pytest.mark.parametrize("vlan", [0, 10])
def test_the_rules_learn_what_they_are_told(vlan: int) -> None:
    told = [("10.7.0.31", "020000000001", vlan), ("fd00:7::31", "020000000003", vlan)]
    assert maps_after([told]) == {"10.7.0.31": "02:00:00:00:00:01", "fd00:7::31": "02:00:00:00:00:03"}


def test_what_they_know_already_goes_before_it() -> None:
    first = [("10.7.0.31", "020000000001", 0), ("fd00:7::31", "020000000003", 0)]
    later = [("10.7.0.31", "020000000009", 0), ("fd00:7::31", "020000000009", 0)]
    assert maps_after([first, later]) == maps_after([first])


def test_who_may_not_mark_packets_tells_them_nothing() -> None:
    assert maps_after([[("10.7.0.31", "020000000001", 0), ("fd00:7::31", "020000000003", 0)]], mark=0) == {}
