"""What `locum decode` prints of a capture: every dialect, in order, without a card, a code or a password."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from appliance.cli import main
from appliance.seeing.files import Damaged, frames
from appliance.simulator.xmlrpc import write_fault
from protocols.radius.packet import Code
from tests.peers import terminal as line
from tests.peers.captures import COPIER, SERVER, Tape, write
from tests.peers.skips import need_shared_data
from tests.unit.seeing_tape import ACCT, CARD, SECRET, TOKEN, account, http, login, office, record, terminal, written


def decoded(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    assert main(["decode", "--time-zone", "UTC", *map(str, arguments)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return said.out.splitlines()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_bytes(SECRET + b"\n")
    return file


@pytest.mark.parametrize("name", ["office.pcapng", "office.pcap"])
def test_every_dialect_is_told_in_its_order(
    tmp_path: Path, secret: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    lines = decoded(capsys, "--secret-file", secret, written(office(Tape()), tmp_path, name))
    assert [line.split()[5] + " " + line.split()[6].rstrip(":") for line in lines[:-1]] == [
        "radius Access-Request",
        "radius Access-Accept",
        "radius Accounting-Request",
        "radius Accounting-Response",
        "terminal HELLO",
        "terminal WELCOME",
        "terminal LOGIN",
        "terminal LOGIN_RESULT",
        "terminal JOB",
        "terminal JOB_ACK",
        "papercut api.lookUpUserNameByCardNo",
        "papercut answer",
    ]
    assert lines[0] == (
        f"2026-11-18 11:06:40.000  {COPIER}:50001 -> {SERVER}:1812                 radius    "
        "Access-Request: card …C3D4, device KM-A4F-000123, method none"
    )
    assert "kind copy, pages 3" in lines[2]
    assert lines[3].endswith("Accounting-Response: after 10 ms")
    assert lines[-1].startswith("12 messages of 3 devices in ")


def test_cards_codes_and_passwords_are_not_shown(
    tmp_path: Path, secret: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tape = office(Tape())
    stream = tape.call(("10.7.0.32", 50_009), (SERVER, 9790))
    stream.send(line.frame(line.LOGIN, 1, line.login("grace", 2, "hopper-password")))
    stream.send(line.frame(line.LOGIN, 2, line.login("31415926", 4)))
    stream.send(line.frame(line.UNLOCK, 3, b"\1" + line.text("271828")))
    stream.send(line.frame(line.QUERY, 4, b"\4" + bytes(8) + line.text("A1A2A3A4")))
    file = written(tape, tmp_path)
    for more in ([], ["--json"]):
        said = "\n".join(decoded(capsys, "--secret-file", secret, *more, file))
        for hidden in (CARD, "hopper-password", "31415926", "271828", "A1A2A3A4", TOKEN, SECRET.decode()):
            assert hidden not in said
    shown = "\n".join(decoded(capsys, "--show-cards", "--secret-file", secret, file))
    assert all(each in shown for each in (CARD, "hopper-password", "31415926", "271828"))
    assert TOKEN not in shown


def test_json_is_an_object_a_line_and_a_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.loads(each) for each in decoded(capsys, "--json", written(office(Tape()), tmp_path))]
    assert lines[0]["at"] == "2026-11-18T11:06:40.000Z"
    assert (lines[0]["from"], lines[0]["to"], lines[0]["what"]) == (
        f"{COPIER}:50001",
        f"{SERVER}:1812",
        "Access-Request",
    )
    assert "authentic" not in lines[0]
    assert lines[-1]["summary"]["messages"] == len(lines) - 1
    assert lines[-1]["summary"]["unreadable"] == {}


def test_a_wrong_secret_is_said(tmp_path: Path, secret: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret.write_bytes(b"another one")
    tape = Tape()
    account(tape, record())
    lines = decoded(capsys, "--secret-file", secret, written(tape, tmp_path))
    assert all("does not fit the secret" in each for each in lines[:2])


def test_radius_on_another_port_is_known_by_its_content(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tape = Tape()
    login(tape, port=21_812)
    tape.udp((COPIER, 50_009), (SERVER, 4_000), b"\x01\x02" + bytes(40))
    lines = decoded(capsys, written(tape, tmp_path))
    assert [each.split()[6] for each in lines[:2]] == ["Access-Request:", "Access-Accept:"]
    assert len(lines) == 3


def test_tags_ipv6_and_fragments_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tape = Tape(vlan=20)
    login(tape)
    tape.vlan = None
    tape.udp(("fd00:7::31", 50_001), ("fd00::5", 1813), record(number=9))
    tape.fragments((COPIER, 50_002), ACCT, record("x" * 200, number=10), size=64)
    lines = decoded(capsys, written(tape, tmp_path))
    assert [each.split()[6] for each in lines[:-1]] == [
        "Access-Request:", "Access-Accept:", "Accounting-Request:", "Accounting-Request:"
    ]  # fmt: skip
    assert "[fd00:7::31]:50001 -> [fd00::5]:1813" in lines[2]


def test_what_cannot_be_read_is_counted_by_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = Ether() / IP(src=COPIER, dst=SERVER) / UDP(sport=5, dport=1812)
    frames = [
        bytes(head / b"\x01\x02\x00\x99"),
        bytes(head / record())[:60],
        b"\0" * 10,
        bytes(head / (b"\x01" * 30)),
    ]
    said = decoded(capsys, write(tmp_path / "bad.pcap", frames))
    assert said == [
        "0 messages of 0 devices in 4 frames.",
        "4 could not be read: cut-short 2, length-lies 1, too-short 1",
    ]


def test_segments_that_come_late_twice_and_overlapping_make_the_same_stream(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tape = Tape()
    terminal(tape, jobs=(1, 2))
    in_order = decoded(capsys, written(tape, tmp_path))[:-1]
    packets = tape.packets
    swapped = [*packets[:5], *(each for pair in zip(packets[6:-4:2], packets[5:-4:2], strict=False) for each in pair)]
    rest = [each for each in packets if not any(each is other for other in swapped)]
    tape.packets = [*swapped, *rest[:-3], *packets[8:12], *rest[-3:]]
    out_of_order = decoded(capsys, written(tape, tmp_path, "again.pcapng"))[:-1]
    words = [each.split("  ", 3)[-1].split(", after")[0] for each in in_order]
    assert sorted(each.split("  ", 3)[-1].split(", after")[0] for each in out_of_order) == sorted(words)


def test_octets_that_are_missing_end_a_stream_and_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tape = Tape()
    terminal(tape, jobs=(1, 2, 3))
    del tape.packets[10]
    assert decoded(capsys, written(tape, tmp_path))[-1] == "1 could not be read: octets-missing 1"


def test_tls_is_said_to_be_encrypted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tape = Tape()
    tape.call((COPIER, 50_005), (SERVER, 9790)).send(b"\x16\x03\x01\x00\x50" + bytes(80))
    tape.call((COPIER, 50_006), (SERVER, 443)).send(b"\x16\x03\x01\x00\x50" + bytes(80))
    lines = decoded(capsys, written(tape, tmp_path))
    assert lines[0].endswith("terminal  TLS")
    assert lines[-1] == "1 could not be read: encrypted 1"


def test_other_traffic_is_not_looked_into(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tape = Tape()
    stream = tape.call((COPIER, 50_005), (SERVER, 9100))
    for _ in range(20):
        stream.send(b"%!PS-Adobe" + bytes(1_000))
    tape.call((COPIER, 50_006), (SERVER, 631)).send(b"POST /ipp/print HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcde")
    tape.udp((COPIER, 5353), ("224.0.0.251", 5353), bytes(60))
    assert decoded(capsys, written(tape, tmp_path)) == [f"0 messages of 0 devices in {len(tape.packets)} frames."]


def test_a_fault_and_an_unknown_call_are_told_without_their_arguments(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tape = Tape()
    fault = write_fault("no such user")
    http(tape, "api.setUserProperty", "ada", "primary-card-number", "99887766", answer=fault)
    lines = decoded(capsys, written(tape, tmp_path))
    assert lines[0].endswith("api.setUserProperty: arguments 3")
    assert "fault: call api.setUserProperty, after 70 ms, text no such user" in lines[1]


def test_names_from_the_wire_cannot_steer_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tape = Tape()
    stream = tape.call((COPIER, 50_005), (SERVER, 9790))
    stream.send(line.frame(line.HELLO, 1, line.hello("\x1b[2Jdevice", "m\nm")))
    said = decoded(capsys, written(tape, tmp_path))
    assert "\x1b" not in "".join(said)
    assert len(said) == 2


@pytest.mark.parametrize("content", [b"", b"no capture", struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 0, 1)[:20]])
def test_what_is_no_capture_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    file = tmp_path / "x.pcap"
    file.write_bytes(content)
    assert main(["decode", str(file)]) == 2
    assert capsys.readouterr().err == f"locum: {file}: is no capture in pcap or pcapng\n"
    assert main(["decode", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_real_captures_of_radius_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    folder = need_shared_data() / "pcap" / "radius"
    lines = decoded(capsys, folder / "RADIUS.pcap")
    assert [each.split()[6] for each in lines[:4]] == [
        "Access-Request:", "Access-Challenge:", "Access-Request:", "Access-Accept:"
    ]  # fmt: skip
    for file in sorted(folder.parent.rglob("*.pcap")):
        decoded(capsys, file)


def test_a_late_answer_and_an_answer_to_nobody_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tape = Tape()
    login(tape, code=Code.ACCESS_REJECT)
    del tape.packets[0]
    assert decoded(capsys, written(tape, tmp_path))[0].endswith("Access-Reject: request not in the capture")


@pytest.mark.parametrize("name", ["office.pcapng", "office.pcap"])
def test_wherever_a_capture_is_cut_what_came_before_is_read_and_the_cut_is_said(tmp_path: Path, name: str) -> None:
    whole = written(office(Tape()), tmp_path, name).read_bytes()
    cut = tmp_path / f"cut-{name}"
    before = [frame.data for frame in frames(tmp_path / name)]
    complete = 0
    for length in range(len(whole) // 2, len(whole)):
        cut.write_bytes(whole[:length])
        found: list[bytes] = []
        with suppress(Damaged):
            found += (frame.data for frame in frames(cut))
            complete += 1
        assert found == [*before[: len(found) - 1], *found[-1:]]
    assert 0 < complete < len(before), "between two frames nothing is seen to be missing"


def test_a_cut_capture_is_decoded_as_far_as_it_goes_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = written(office(Tape()), tmp_path, "office.pcap").read_bytes()
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(whole[:-5])
    assert main(["decode", str(cut)]) == 1
    said = capsys.readouterr()
    assert "messages of 3 devices" in said.out
    assert f"locum: {cut}: is cut off or damaged after frame" in said.err


@pytest.mark.parametrize("pcapng", [True, False], ids=["pcapng", "pcap"])
def test_while_a_large_file_is_read_it_is_told_how_far(tmp_path: Path, pcapng: bool) -> None:
    tape = Tape()
    for _ in range(2_500):
        tape.udp((COPIER, 5), (SERVER, 1812), b"x")
    path = tape.write(tmp_path / "large", pcapng=pcapng)
    told: list[tuple[int, int]] = []
    assert sum(1 for _ in frames(path, lambda _, done, of: told.append((done, of)))) == 2_500
    size = path.stat().st_size
    assert [round(done / of, 1) for done, of in told] == [0.4, 0.8]
    assert {of for _, of in told} == {size}
