"""Real traffic in namespaces of the test's own: heard, recorded by a ring, decoded, discovered, and taken in by a Locum
that runs.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.seeing.files import frames
from tests.peers.captures import Tape
from tests.peers.freeradius import FreeRadius, dictionary_text
from tests.peers.locum import Locum
from tests.peers.netns import COPIER, SERVER, Wire, wire
from tests.peers.skips import ROOT, need_radclient
from tests.peers.waiting import eventually
from tests.unit.seeing_tape import SECRET, account, record, terminal, written

LOCUM = [sys.executable, "-m", "appliance"]
LISTENER = """
import hashlib, select, socket
secret = b"a long shared secret"
ends = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
for end, port in zip(ends, (1812, 1813)):
    end.bind(("0.0.0.0", port))
print("ready", flush=True)
while True:
    for end in select.select(ends, [], [])[0]:
        data, peer = end.recvfrom(4096)
        code = 2 if data[0] == 1 else 5
        head = bytes((code, data[1], 0, 20))
        end.sendto(head + hashlib.md5(head + data[4:20] + secret).digest(), peer)
"""
"""A RADIUS server that grants and takes everything."""


@pytest.fixture
def line() -> Iterator[Wire]:
    """Copier and server joined by a plain bridge on the appliance."""
    with wire() as made:
        for arguments in (
            ("link", "add", "br0", "type", "bridge"),
            ("link", "set", "p0", "master", "br0", "up"),
            ("link", "set", "p1", "master", "br0", "up"),
            ("link", "set", "br0", "up"),
        ):
            made.ip(made.appliance, *arguments)
        server = made.popen(made.server, [sys.executable, "-c", LISTENER], stdout=subprocess.PIPE)
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        yield made


def swipe_and_copy(line: Wire, home: Path) -> None:
    """By FreeRADIUS's own client on the copier's side; its dictionary knows our attributes."""
    (home / "dictionary").write_text(dictionary_text())
    requests = {
        ("1812", "auth"): 'User-Name = "04A1B2C3D4"\nNAS-Identifier = "KM-A4F"\n',
        ("1813", "acct"): 'User-Name = "04A1B2C3D4"\nNAS-Identifier = "KM-A4F"\nAcct-Status-Type = Stop\n'
        'Acct-Session-Id = "S1"\nLocum-Job-Kind = Copy\nLocum-Pages = 4\n',
    }
    for (port, command), text in requests.items():
        client = [
            need_radclient(),
            "-d",
            str(home),
            "-r",
            "10",
            "-t",
            "1",
            f"{SERVER}:{port}",
            command,
            SECRET.decode(),
        ]
        line.run(line.copier, client, input=text)


def started(line: Wire, *arguments: str) -> subprocess.Popen[Any]:
    """A command of Locum on the appliance, that listens already."""
    process = line.popen(
        line.appliance, [*LOCUM, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    many = arguments.count("--interface")
    eventually(lambda: _hearing(line) == many, within=15.0, saying="somebody listens on each interface")
    return process


def _hearing(line: Wire) -> int:
    """How many sockets there hear every frame (packet(7): protocol ETH_P_ALL, bound and running)."""
    rows = [each.split() for each in line.run(line.appliance, ["cat", "/proc/net/packet"]).stdout.splitlines()[1:]]
    return sum(row[3] == "0003" and row[5] == "1" for row in rows)


def ended(process: subprocess.Popen[Any], number: int = signal.SIGTERM) -> str:
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    return str(out)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_traffic_is_recorded_and_decoded(line: Wire, tmp_path: Path, number: int) -> None:
    folder = tmp_path / "ring"
    process = started(line, "capture", "--interface", "p0", "--dir", str(folder))
    line.run(line.copier, ["ping", "-c", "1", "-W", "5", SERVER])
    swipe_and_copy(line, tmp_path)
    eventually(lambda: list(folder.glob("*.pcapng")) and _decoded(folder)["summary"]["messages"] >= 4, within=10.0)
    assert "4 frames (" in ended(process, number)
    (file,) = folder.glob("*.pcapng")
    assert file.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    (tmp_path / "secret").write_bytes(SECRET)
    told = _decoded(folder, "--secret-file", str(tmp_path / "secret"))
    assert told["summary"] == {"messages": 4, "frames": 4, "unreadable": {}}
    assert [each["what"] for each in told["said"]] == [
        "Access-Request", "Access-Accept", "Accounting-Request", "Accounting-Response"
    ]  # fmt: skip
    assert told["said"][2]["authentic"] is True
    assert told["said"][2]["facts"]["pages"] == 4
    assert told["said"][0]["from"].startswith(f"{COPIER}:")


def _decoded(folder: Path, *more: str) -> dict[str, Any]:
    command = [*LOCUM, "decode", "--json", *more, *map(str, sorted(folder.glob("*.pcapng")))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    *said, last = [json.loads(each) for each in done.stdout.splitlines()]
    return {"said": said, **last}


def test_an_office_is_discovered_on_the_wire(line: Wire, tmp_path: Path) -> None:
    target = tmp_path / "proposed.toml"
    process = started(
        line, "discover", "--interface", "p0", "--interface", "p1", "--seconds", "60", "--json", "--write", str(target)
    )
    swipe_and_copy(line, tmp_path)
    out = ended(process, signal.SIGINT)
    (copier,) = json.loads(out)["copiers"]
    assert (copier["address"], copier["mac"], copier["names"]) == (COPIER, line.copier_mac, ["KM-A4F"])
    (talk,) = copier["talks"]
    assert (talk["server"], talk["dialect"], talk["ports"]) == (SERVER, "radius", [1812, 1813])
    assert talk["messages"] >= 4
    text = target.read_text()
    assert 'copier_side = "p0"\nserver_side = "p1"\n' in text
    assert target.stat().st_uid == 0


def test_listening_is_done_by_nobody_in_particular(line: Wire, tmp_path: Path) -> None:
    process = started(line, "discover", "--interface", "p0", "--seconds", "60")
    pids = [int(each) for each in line.run(line.appliance, ["ip", "netns", "pids", line.appliance]).stdout.split()]
    python = next(pid for pid in pids if b"discover" in Path(f"/proc/{pid}/cmdline").read_bytes())

    def gave_up() -> bool:
        status = Path(f"/proc/{python}/status").read_text().splitlines()
        told = dict(each.split(":\t", 1) for each in status if ":\t" in each)
        return "0" not in told["Uid"].split() and int(told["CapEff"], 16) == 0

    eventually(gave_up, within=10.0, saying="root is given up")
    ended(process)


def test_tagged_frames_are_heard_with_their_tag(line: Wire, tmp_path: Path) -> None:
    folder = tmp_path / "ring"
    process = started(line, "capture", "--interface", "p0", "--dir", str(folder))
    tape = Tape(vlan=20)
    account(tape, record(), answered=False)
    raw = bytes(tape.packets[0])
    with line.inside(line.copier), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind(("c0", 0))
        sender.send(raw)
    eventually(lambda: list(folder.glob("*.pcapng")), within=10.0, saying="a frame was recorded")
    ended(process)
    (frame,) = frames(next(folder.glob("*.pcapng")))
    assert frame.data == raw


def test_an_interface_that_goes_away_ends_a_capture_in_words(line: Wire, tmp_path: Path) -> None:
    process = started(line, "capture", "--interface", "p0", "--dir", str(tmp_path / "ring"))
    line.ip(line.appliance, "link", "set", "p0", "down")
    out, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert err.startswith("locum: p0: cannot be heard any more (Network is down)")
    assert (out, err.count("\n")) == ("", 1)


def test_a_running_appliance_takes_records_in_and_forwards_what_was_not_acknowledged(
    tmp_path: Path, make_server: Callable[..., FreeRadius], make_locum: Callable[..., Locum]
) -> None:
    server = make_server()
    more = f"""
[[listen]]
dialect = "radius"
bind = "127.0.0.9"
upstream = "hq"
clients = [{{ network = "10.7.0.0/24", secret = "{SECRET.decode()}" }}]
"""
    locum = make_locum(server, more=more).start()
    locum.wait_until_proven()
    tape = Tape()
    account(tape, record())
    account(tape, record("5A02", number=3, pages=7), answered=False)
    terminal(tape)
    file = written(tape, tmp_path)
    done = locum.run_to_its_end("decode", "--import", "--forward", str(file))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1] == "2 records added to the ledger as recovered; it had 0 already."
    assert done.stdout.splitlines()[3] == "Left out: unknown-server 1."
    eventually(lambda: locum.status()["outbox"]["waiting"] == 0, within=10.0, saying="it was forwarded")
    assert [each.get("Locum-Pages") for each in server.logged()] == ["7"]
    again = locum.run_to_its_end("decode", "--import", "--forward", str(file))
    assert again.stdout.splitlines()[1] == "0 records added to the ledger as recovered; it had 2 already."
