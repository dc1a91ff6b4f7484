"""What `locum discover` tells of an office, and the configuration that it proposes for it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from scapy.asn1.asn1 import ASN1_OID, ASN1_STRING
from scapy.layers.dns import DNS, DNSRR
from scapy.layers.snmp import SNMP, SNMPresponse, SNMPvarbind

from appliance.check import settings
from appliance.check.findings import Level
from appliance.cli import main
from appliance.config import Config, load
from appliance.seeing.makers import maker_of
from appliance.seeing.naming import by_mdns, by_snmp
from tests.peers.captures import COPIER, COPIER_MAC, SERVER, Tape
from tests.unit.seeing_tape import account, http, login, office, record, terminal, written

ANSWER = b"<methodResponse><params><param><value>ada</value></param></params></methodResponse>"


def seen(capsys: pytest.CaptureFixture[str], tape: Tape, folder: Path, *more: str) -> Any:
    assert main(["discover", "--json", "--pcap", str(written(tape, folder)), *more]) == 0
    return json.loads(capsys.readouterr().out)


def proposed(capsys: pytest.CaptureFixture[str], tape: Tape, folder: Path, *more: str) -> Config:
    """The configuration, once its secrets are there."""
    target = folder / "proposed.toml"
    seen(capsys, tape, folder, "--write", str(target), *more)
    assert target.stat().st_mode & 0o777 == 0o600
    for name in re.findall(r'"([\w.-]+\.(?:secret|token))"', target.read_text()):
        (folder / name).touch(mode=0o600)
        (folder / name).write_text("a long random secret\n")
    config = load(target)
    assert [each for each in settings.findings(config) if each.level is Level.ERROR] == []
    return config


def test_copiers_are_told_with_maker_model_and_servers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tape = Tape(vlan=20)
    description = SNMPvarbind(oid=ASN1_OID("1.3.6.1.2.1.1.1.0"), value=ASN1_STRING(b"KONICA MINOLTA bizhub C368"))
    tape.udp((COPIER, 161), (SERVER, 40_000), bytes(SNMP(PDU=SNMPresponse(varbindlist=[description]))))
    told = seen(capsys, office(tape), tmp_path)
    first, second, third = told["copiers"]
    assert first == {
        "address": COPIER,
        "mac": "",
        "maker": "",
        "model": "KONICA MINOLTA bizhub C368",
        "names": ["KM-A4F-000123"],
        "vlans": [20],
        "talks": [{"server": SERVER, "dialect": "radius", "ports": [1812, 1813], "encrypted": False, "messages": 4}],
    }
    assert (second["names"], second["model"]) == (["T-1"], "bizhub C368")
    assert third["talks"][0]["dialect"] == "papercut"


def test_the_maker_is_told_unless_a_gateway_stands_before_the_copier(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = Tape()
    login(alone)
    copier = seen(capsys, alone, tmp_path)["copiers"][0]
    assert (copier["mac"], copier["maker"]) == (COPIER_MAC, "Konica Minolta")
    behind = Tape()
    login(behind)
    behind.udp(("10.7.0.99", 5), (SERVER, 53), b"x")
    assert seen(capsys, behind, tmp_path)["copiers"][0]["mac"] == ""


def test_the_proposed_configuration_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tape = office(Tape())
    login_v6 = Tape()
    login_v6.packets = tape.packets
    login_v6.udp(("fd00:7::31", 50_001), ("fd00::5", 1813), record())
    config = proposed(capsys, login_v6, tmp_path)
    assert [(each.dialect, each.addresses) for each in config.upstreams] == [
        ("radius", (SERVER,)),
        ("radius", ("fd00::5",)),
        ("terminal", (SERVER,)),
        ("papercut", (SERVER,)),
    ]
    assert [(each.dialect, each.bind, each.upstream) for each in config.listens] == [
        ("radius", "0.0.0.0", "radius-1"),
        ("radius", "::", "radius-2"),
        ("terminal", "0.0.0.0", "terminal-1"),
    ]


def test_a_second_server_of_other_copiers_is_written_switched_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tape = Tape()
    login(tape)
    for copier in ("10.8.0.1", "10.8.0.2"):
        tape.udp((copier, 5), ("10.0.0.6", 1813), record())
        tape.udp((copier, 5), ("10.0.0.7", 1813), record())
    config = proposed(capsys, tape, tmp_path)
    assert [each.addresses for each in config.upstreams] == [("10.0.0.6", "10.0.0.7")]
    assert f'# address = "{SERVER}"' in (tmp_path / "proposed.toml").read_text()


def test_other_ports_are_in_the_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tape = Tape()
    login(tape, port=1645)
    tape.udp((COPIER, 5), (SERVER, 1646), record())
    (upstream,) = proposed(capsys, tape, tmp_path).upstreams
    assert (upstream.auth_port, upstream.accounting_port) == (1645, 1646)  # type: ignore[attr-defined]


def test_terminals_over_tls_are_proposed_over_tls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tape = Tape()
    tape.call((COPIER, 50_005), (SERVER, 9790)).send(b"\x16\x03\x01\x00\x50" + bytes(80))
    (upstream,) = proposed(capsys, tape, tmp_path).upstreams
    assert upstream.tls is not None  # type: ignore[attr-defined]


def test_only_calls_to_papercut_give_a_listener_to_think_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tape = Tape()
    http(tape, "api.isUserExists", "ada", answer=ANSWER)
    config = proposed(capsys, tape, tmp_path)
    assert [each.dialect for each in (*config.upstreams, *config.listens)] == ["papercut", "terminal"]


def test_copiers_of_one_network_are_written_as_the_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tape = Tape()
    for copier in ("10.7.0.1", "10.7.0.2", "10.9.0.7"):
        tape.udp((copier, 5), (SERVER, 1813), record())
    (listen,) = proposed(capsys, tape, tmp_path).listens
    assert [str(each.network) for each in listen.clients] == ["10.7.0.0/24", "10.9.0.7/32"]  # type: ignore[attr-defined]


def test_nobody_is_said_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(Tape(), tmp_path)
    file.write_bytes(b"\xd4\xc3\xb2\xa1\2\0\4\0" + bytes(8) + b"\xff\xff\0\0\1\0\0\0")
    assert main(["discover", "--pcap", str(file)]) == 0
    assert capsys.readouterr().out.startswith("Nobody who speaks RADIUS")


def test_the_table_has_a_row_for_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tape = office(Tape())
    account(tape, record())
    terminal(tape, jobs=(7,))
    assert main(["discover", "--pcap", str(written(tape, tmp_path))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == [
        COPIER,
        "KM-A4F-000123",
        "-",
        "-",
        "-",
        "-",
        SERVER,
        "port",
        "1812",
        "and",
        "1813:",
        "radius",
    ]
    assert lines[-1] == f"3 copiers seen in {len(tape.packets)} frames."


@pytest.mark.parametrize(
    "arguments", [[], ["--interface", "lo", "--pcap", "x"], [*("--interface", "lo") * 3], ["--seconds", "0"]], ids=str
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["discover", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "there"
    target.write_text("mine")
    tape = Tape()
    login(tape)
    assert main(["discover", "--pcap", str(written(tape, tmp_path)), "--write", str(target)]) == 2
    assert target.read_text() == "mine"


def test_makers_are_known_by_the_first_three_octets() -> None:
    assert maker_of(bytes.fromhex("00206b010203")) == "Konica Minolta"
    assert maker_of(bytes.fromhex("02206b010203")) == ""
    assert maker_of(b"") == ""


def test_models_are_taken_from_mdns() -> None:
    text = DNSRR(rrname="x._ipp._tcp.local.", type="TXT", rdata=[b"txtvers=1", b"ty=RICOH IM C3000"])
    assert by_mdns(bytes(DNS(qr=1, an=[text]))) == "RICOH IM C3000"
    assert by_mdns(b"\0\0\x84\0" + b"\xff" * 30) == ""
    assert by_snmp(b"\x30\x80\x02") == ""
