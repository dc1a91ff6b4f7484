"""A server's machine that is gone is answered for, on real interfaces: what the copier's kernel makes of it.

In network namespaces: a plain bridge between the two sides, and beside it Locum's frames alone. Needs root.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers.netns import COPIER, SERVER, SERVER6, Wire, wire
from tests.peers.skips import ROOT
from tests.peers.waiting import eventually, never_within

SOON = 1.6
"""Seconds from the loss of contact until a question is answered: three probes in 0.9 s, ticks, a busy machine."""
QUIET = "resting"


class Box:
    """The process with the flow, on the appliance's two ports of the bridge."""

    def __init__(self, line: Wire, folder: Path) -> None:
        self.line = line
        arguments = [str(folder), "p0", "p1", json.dumps([SERVER, SERVER6])]
        command = [sys.executable, "-m", "tests.peers.answering", *arguments]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        self.process = line.popen(line.appliance, command, cwd=ROOT, **pipes)
        self.read()

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"it ended with {self.process.wait(5)}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def tell(self, **command: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self.read()

    def stages(self) -> set[str]:
        return {stage for stage, _, _ in self.tell()["standing"].values()}

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def line() -> Iterator[Wire]:
    with wire() as made:
        made.ip(made.appliance, "link", "add", "br0", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
        for port in ("p0", "p1"):
            made.ip(made.appliance, "link", "set", port, "master", "br0", "up")
        made.ip(made.appliance, "link", "set", "br0", "arp", "off", "addrgenmode", "none", "up")
        yield made


@pytest.fixture
def start(line: Wire, tmp_path: Path) -> Iterator[Callable[[], Box]]:
    made: list[Box] = []

    def start() -> Box:
        made.append(Box(line, tmp_path))
        return made[-1]

    yield start
    for box in made:
        box.stop()


@pytest.fixture
def box(start: Callable[[], Box]) -> Box:
    return start()


def forget(line: Wire) -> None:
    """The copier's memory of its neighbours is empty."""
    for version in ("-4", "-6"):
        line.ip(line.copier, version, "neigh", "flush", "all")


def ping(line: Wire, address: str) -> bool:
    """One question to the server; whether it answered."""
    return line.run(line.copier, ["ping", "-c1", "-W1", address], check=False).returncode == 0


def known_as(line: Wire, address: str) -> str:
    """The MAC address that the copier's kernel has for the server's address, "" for none."""
    found = json.loads(line.ip(line.copier, "-j", "neigh", "show", address) or "[]")
    return next((each["lladdr"] for each in found if "lladdr" in each and "FAILED" not in each["state"]), "")


def learn(line: Wire, box: Box) -> None:
    forget(line)
    for address in (SERVER, SERVER6):
        eventually(lambda address=address: ping(line, address), 10, f"a ping to {address}")
    eventually(lambda: {mac for _, mac, _ in box.tell()["standing"].values()} == {line.server_mac}, 5, "MAC learned")


def server_goes(line: Wire) -> None:
    line.ip(line.server, "link", "set", "s0", "down")


def server_comes(line: Wire, mac: str = "") -> None:
    if mac:
        line.ip(line.server, "link", "set", "s0", "address", mac)
    line.ip(line.server, "link", "set", "s0", "up")
    line.ip(line.server, "addr", "replace", f"{SERVER6}/64", "dev", "s0", "nodad")


def test_a_server_that_is_there_is_left_to_answer_for_itself(line: Wire, box: Box) -> None:
    learn(line, box)
    answer = box.tell(signal="contact failed")
    assert {stage for stage, _, _ in answer["standing"].values()} == {QUIET}
    eventually(lambda: box.stages() == {"listening"}, 5, "the server's answers to the probes were heard")
    forget(line)
    assert ping(line, SERVER)
    assert ping(line, SERVER6)
    assert [answered for _, _, answered in box.tell()["standing"].values()] == [0, 0]


@pytest.mark.parametrize("address", [SERVER, SERVER6])
def test_the_copier_sees_the_servers_last_mac_address_soon_after_contact_is_lost(
    line: Wire, box: Box, address: str
) -> None:
    learn(line, box)
    server_goes(line)
    forget(line)
    assert not ping(line, address)
    assert known_as(line, address) == ""
    lost = box.tell(signal="contact failed")["now"]
    eventually(lambda: box.stages() == {"answering"}, SOON, "the probes stayed silent")
    silent = box.tell()["now"] - lost
    forget(line)
    asked = time.monotonic()
    pinging = line.popen(line.copier, ["ping", "-c1", "-W1", address], stdout=subprocess.DEVNULL)
    eventually(lambda: known_as(line, address) == line.server_mac, SOON, "an answer")
    print(f"{address}: probes silent after {silent:.3f} s, then answered within {time.monotonic() - asked:.3f} s")
    assert pinging.wait(5) != 0
    assert box.tell()["lost"] == {}


def test_it_is_silent_when_the_server_is_back(line: Wire, box: Box) -> None:
    learn(line, box)
    server_goes(line)
    box.tell(signal="contact failed")
    eventually(lambda: box.stages() == {"answering"}, SOON + 1)
    server_comes(line)
    forget(line)
    eventually(lambda: ping(line, SERVER), 10, "the server itself")
    eventually(lambda: ping(line, SERVER6), 10, "the server itself")
    assert box.stages() == {"listening"}
    before = [answered for _, _, answered in box.tell()["standing"].values()]
    for address in (SERVER, SERVER6):
        forget(line)
        assert ping(line, address)
        assert known_as(line, address) == line.server_mac
    assert [answered for _, _, answered in box.tell()["standing"].values()] == before
    assert box.tell()["alarms"] == []


def test_another_mac_address_is_an_alarm_and_ends_the_answers(line: Wire, box: Box) -> None:
    learn(line, box)
    server_goes(line)
    box.tell(signal="contact failed")
    eventually(lambda: box.stages() == {"answering"}, SOON + 1)
    server_comes(line, "02:00:00:00:00:99")
    forget(line)
    eventually(lambda: ping(line, SERVER), 10, "the new machine")
    assert known_as(line, SERVER) == "02:00:00:00:00:99"
    (alarm,) = [text for text in box.tell()["alarms"] if SERVER in text]
    assert alarm == f"hq: another machine says that it has the server's address {SERVER}; look who it is"
    stage, mac, _ = box.tell()["standing"][SERVER]
    assert (stage, mac) == ("listening", line.server_mac)


def test_the_servers_side_hears_nothing_but_the_probes(line: Wire, box: Box) -> None:
    """And the frames that pass the bridge by themselves: the copier's own."""
    learn(line, box)
    sniffed = line.popen(
        line.server,
        [sys.executable, "-c", SNIFF, "s0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert sniffed.stdout is not None
    assert sniffed.stdout.readline() == "ready\n"
    # The machine is still there to listen, and says nothing any more.
    line.run(line.server, ["sysctl", "-w", "net.ipv6.conf.s0.disable_ipv6=1"])
    line.run(line.server, ["ip", "addr", "del", f"{SERVER}/24", "dev", "s0"])
    box.tell(signal="contact failed")
    eventually(lambda: box.tell()["standing"][SERVER][0] == "answering", SOON + 1)
    line.run(line.copier, ["ip", "-4", "neigh", "flush", "all"])
    line.run(line.copier, ["ping", "-c1", "-W1", SERVER], check=False)
    assert known_as(line, SERVER) == line.server_mac
    sniffed.terminate()
    out, _ = sniffed.communicate(timeout=10)
    frames = [tuple(json.loads(each)) for each in out.splitlines()]
    probes = [frame for frame in frames if frame == (line.copier_mac, 1, "0.0.0.0", SERVER)]
    assert len(probes) == 3
    assert {frame for frame in frames if frame not in probes} <= {(line.copier_mac, 1, COPIER, SERVER)}


def test_a_restart_answers_from_what_it_remembers(line: Wire, box: Box, start: Callable[[], Box]) -> None:
    learn(line, box)
    box.tell(signal="contact failed")
    eventually(lambda: box.stages() == {"listening"}, 5)
    eventually(lambda: remembered(line, box), 5, "it is in the ledger")
    box.stop()
    server_goes(line)
    again = start()
    assert {mac for _, mac, _ in again.tell()["standing"].values()} == {line.server_mac}
    again.tell(signal="contact failed")
    never_within(lambda: again.stages() - {"doubting", QUIET}, 0.5, "a probe before a question")
    forget(line)
    line.popen(line.copier, ["ping", "-c2", "-W1", SERVER], stdout=subprocess.DEVNULL)
    eventually(lambda: known_as(line, SERVER) == line.server_mac, 3 * SOON, "an answer")


def test_a_question_with_a_vlan_tag_is_answered_with_it(line: Wire, box: Box) -> None:
    """The kernel takes the tag off before Locum sees the frame, and hands it beside."""
    pytest.importorskip("scapy.all")

    def send(namespace: str, interface: str, *frame: str) -> str:
        return line.run(namespace, [sys.executable, "-c", TAGGED, interface, *frame]).stdout.strip()

    send(line.server, "s0", "2", line.server_mac, SERVER, line.copier_mac, COPIER)
    eventually(lambda: box.tell()["standing"][SERVER][1] == line.server_mac, 5, "MAC learned in the VLAN")
    server_goes(line)
    send(line.copier, "c0", "1", line.copier_mac, COPIER, "00:00:00:00:00:00", SERVER)
    box.tell(signal="contact failed")
    eventually(lambda: box.tell()["standing"][SERVER][0] == "answering", SOON + 1)
    answer = send(line.copier, "c0", "1", line.copier_mac, COPIER, "00:00:00:00:00:00", SERVER)
    assert answer == f"10 5 {line.server_mac} {line.copier_mac} {SERVER}"


def remembered(line: Wire, box: Box) -> bool:
    folder = box.process.args[-4]  # type: ignore[index]
    found = subprocess.run(
        [
            "sqlite3",
            f"{folder}/ledger.db",
            f"SELECT count(*) FROM memory WHERE key IN ('neighbour:{SERVER}', 'neighbour:{SERVER6}')",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout.strip() == "2"


TAGGED = """
import sys
from scapy.all import ARP, Dot1Q, Ether, srp1
interface, operation, mac, sender, target_mac, target = sys.argv[1:]
frame = Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / Dot1Q(vlan=10, prio=5)
frame /= ARP(op=int(operation), hwsrc=mac, psrc=sender, hwdst=target_mac, pdst=target)
found = srp1(frame, iface=interface, timeout=1, verbose=False)
if found is not None:
    print(found[Dot1Q].vlan, found[Dot1Q].prio, found[ARP].hwsrc, found.dst, found[ARP].psrc)
"""
SNIFF = """
import json, socket, sys
taps = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
taps.bind((sys.argv[1], 0x0806))
print("ready", flush=True)
while True:
    frame, where = taps.recvfrom(2000)
    if where[2] != socket.PACKET_OUTGOING:
        addresses = [socket.inet_ntoa(frame[at:at + 4]) for at in (28, 38)]
        print(json.dumps([frame[6:12].hex(":"), int.from_bytes(frame[20:22], "big"), *addresses]), flush=True)
"""
