"""The two programs of eBPF for VLAN tags: what they make of frames, who may load them, and how they come and go."""

from __future__ import annotations

import re
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Dot1Q, Ether

from appliance.inline import tags
from appliance.inline.kernel import kernel
from appliance.inline.plan import plan, problems
from appliance.inline.rules import bridge_rules
from appliance.inline.steps import MakeBridge, Rules, Tags
from tests.peers.netns import COPIER, SERVER, Wire, wire
from tests.peers.skips import ROOT, need_program, need_root
from tests.peers.tagged import tag_tap
from tests.peers.waiting import eventually
from tests.unit.configs import loaded
from tests.unit.test_inline_rules import BRIDGE, CONFIG, FLOWS, MAC

INLINE = """
[inline]
mode = "bridge"
copier_side = "c0"
server_side = "lo"
"""


WITHOUT_TAGS = bridge_rules(BRIDGE, FLOWS, MAC, tags=False)


@pytest.fixture
def line() -> Iterator[Wire]:
    with wire() as made:
        yield made


def test_a_tag_is_put_on_in_either_order_of_its_octets_and_no_other_priority_is_taken_for_one(line: Wire) -> None:
    """nft writes it in that of the wire (1.0.6) or in that of the machine (versions that convert it)."""
    with line.inside(line.copier), kernel() as at_kernel:
        at_kernel.attach("c0", tags.PROGRAMS)
    line.ip(line.appliance, "link", "set", "p0", "up")
    swapped = struct.unpack("<I", struct.pack(">I", 0x8100_0FFE))[0]
    sent = {0x8100_0FFE: 4094, swapped: 4094, 0x8100_0001: 1, 0x0100_0081: 1, 0: None, 7: None, 0x0A00_0800: None}
    with tag_tap(line, line.appliance, "p0") as at_other_end:
        for number, priority in enumerate(sent):
            frame = Ether(src=MAC, dst=MAC) / IP(src=COPIER, dst=SERVER) / UDP(sport=4000 + number, dport=9)
            send(line, bytes(frame), priority)
        eventually(lambda: len(at_other_end.packets(9)) == len(sent), 5, "they all arrive")
        came = {each[UDP].sport - 4000: each for each in at_other_end.packets(9)}
    found = [came[number][Dot1Q].vlan if Dot1Q in came[number] else None for number in range(len(sent))]
    assert found == list(sent.values())


def send(line: Wire, frame: bytes, priority: int) -> None:
    with line.inside(line.copier), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sending:
        sending.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, struct.pack("=I", priority))
        sending.bind(("c0", 0))
        sending.send(frame)


def test_the_programs_come_with_their_step_and_go_with_it(line: Wire) -> None:
    with line.inside(line.appliance), kernel() as at_kernel:
        step = Tags("locum0")
        step.take_back(at_kernel)
        MakeBridge("locum0", MAC).take(at_kernel)
        assert at_kernel.attached("locum0") == []
        for _ in range(2):
            step.take(at_kernel)
            assert at_kernel.attached("locum0") == ["locum_take_off", "locum_put_on"]
        step.take_back(at_kernel)
        assert at_kernel.attached("locum0") == []
        assert "clsact" not in line.run(line.appliance, ["tc", "qdisc", "show", "dev", "locum0"]).stdout


def test_the_plan_says_them_and_where_there_is_no_ebpf_that_tagged_frames_pass(
    line: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = loaded(tmp_path, CONFIG + INLINE)
    with line.inside(line.copier), kernel() as at_kernel:
        words = [step.words for step in plan(config, at_kernel)]
        assert words[-2].splitlines()[0] == "tc qdisc add dev locum0 clsact"
        assert [each for each in problems(config, at_kernel) if "VLAN" in each.text] == []
        monkeypatch.setattr(tags, "_PARTS", {**tags._PARTS, "cls_none": "cls_none_classify"})
        steps = plan(config, at_kernel)
        assert [step for step in steps if isinstance(step, Tags)] == []
        assert isinstance(steps[-1], Rules)
        assert "@ll,96,16 { 0x8100, 0x88a8 } accept" in steps[-1].text
        (remark,) = [each for each in problems(config, at_kernel) if "VLAN" in each.text]
        assert (remark.fatal, "(this kernel has no cls_none)" in remark.text) == (False, True)


def test_where_tags_cannot_be_taken_off_every_frame_that_has_one_passes() -> None:
    for chain in ("copiers", "servers"):
        _, hook, *rules = WITHOUT_TAGS[WITHOUT_TAGS.index(f"  chain {chain} {{") :].splitlines()
        assert hook.split()[:2] == ["type", "filter"]
        passed = rules.index("    @ll,96,16 { 0x8100, 0x88a8 } accept")
        assert all(rule.endswith(" accept") for rule in rules[:passed])


def test_where_tags_cannot_be_put_on_nothing_is_sent_to_a_copier_in_a_vlan() -> None:
    """Its VLAN is remembered from when they could be."""
    out = WITHOUT_TAGS[WITHOUT_TAGS.index("  chain out {") :].splitlines()
    last_known = max(number for number, rule in enumerate(out) if "meta priority set ip6 daddr map @vlan6" in rule)
    assert out[last_known + 1].strip() == "meta priority != 0 drop"


def test_the_services_capabilities_are_enough() -> None:
    """As `locum-inline.service` bounds them; without that for eBPF they are not."""
    need_root()
    need_program("setpriv", "util-linux")
    unit = (ROOT / "appliance/units/locum-inline.service").read_text()
    (bounds,) = re.findall(r"^CapabilityBoundingSet=(.*)$", unit, re.MULTILINE)
    given = [each.removeprefix("CAP_").lower() for each in bounds.split()]
    assert refusal(given) == ""
    assert refusal([each for each in given if each != "bpf"]) == "eBPF: Operation not permitted"


def refusal(capabilities: list[str]) -> str:
    bounds = ",".join(["-all", *(f"+{each}" for each in capabilities)])
    code = "from appliance.inline import tags; print(tags.refusal())"
    command = ["setpriv", "--inh-caps=-all", f"--bounding-set={bounds}", sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
