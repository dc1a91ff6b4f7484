"""`locum check` and the agents of copiers: each way in which one cannot be read has its own words, in bounded time."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.check import Finding, Level, meters
from appliance.config import SnmpConfig
from appliance.simulator.machine import Machine
from protocols.snmp.messages import Message
from proxy.metering.agents import Agent, User
from tests.peers import agents, snmpd
from tests.peers.agents import answer
from tests.peers.ports import free_port
from tests.unit.configs import SMALL, loaded


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as open_:
        yield open_


def copier(stack: ExitStack, machine: Machine) -> int:
    def behave(asked: Message, data: bytes) -> list[bytes]:
        said = machine.answer(data, time.monotonic())
        return [said] if said is not None else []

    made = agents.Agent(behave)
    stack.callback(made.stop)
    return int(made.port)


def checked(folder: Path, **found: Agent) -> dict[str, Finding]:
    config = replace(loaded(folder, SMALL), snmp=SnmpConfig(found))
    return {finding.what.removeprefix("meters "): finding for finding in meters.findings(config)}


def agent(port: int, **how: Any) -> Agent:
    return Agent("127.0.0.1", port, timeout=0.3, **how)


def test_without_agents_nothing_is_tried(tmp_path: Path) -> None:
    assert checked(tmp_path) == {}


def test_a_copier_that_can_be_read_is_named_with_what_its_meters_show(stack: ExitStack, tmp_path: Path) -> None:
    machine = Machine("7")
    machine.make("copy", 1200, 100)
    found = checked(tmp_path, old=agent(copier(stack, machine), version=1))
    assert found["old"].level is Level.OK
    assert found["old"].text.startswith("Lab copier 7: total 1,200, color 100, ")


def test_a_wrong_community_is_told_from_a_copier_that_is_off(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = copier(stack, Machine("1", community=b"s3cret"))
    with socket.create_server(("127.0.0.1", 0)) as web:
        for knocked in (web.getsockname()[1], free_port()):  # one that takes us, one that refuses
            monkeypatch.setattr(meters, "WEB_PORTS", (knocked,))
            there = checked(tmp_path, old=agent(port, community=b"wr0ng"))["old"]
            assert there.level is Level.ERROR
            assert "is there, but says nothing to SNMP: most likely the community is wrong" in there.text
            assert "wr0ng" not in there.text
    monkeypatch.setattr(meters, "WEB_PORTS", ())
    away = checked(tmp_path, old=agent(port, community=b"wr0ng"))["old"]
    assert away.level is Level.WARNING
    assert "it is off, asleep, or the community is wrong; nothing else answers" in away.text


def test_a_host_without_an_agent_is_an_error(tmp_path: Path) -> None:
    found = checked(tmp_path, old=agent(free_port()))["old"]
    assert found.level is Level.ERROR
    assert "nobody listens at 127.0.0.1 port" in found.text


def test_an_agent_that_does_not_let_us_read_and_one_that_says_something_else(stack: ExitStack, tmp_path: Path) -> None:
    denies = agents.Agent(lambda asked, data: [answer(asked, *asked.varbinds, status=16)])
    other = agents.Agent(lambda asked, data: [b"HTTP/1.0 400 Bad Request\r\n"])
    for made in (denies, other):
        stack.callback(made.stop)
    found = checked(tmp_path, denies=agent(denies.port), other=agent(other.port))
    assert [found[name].level for name in ("denies", "other")] == [Level.ERROR] * 2
    assert "does not let us read" in found["denies"].text
    assert "is an SNMP agent at 127.0.0.1 port" in found["other"].text


def test_a_machine_without_a_counter_is_warned_of(stack: ExitStack, tmp_path: Path) -> None:
    def nothing(asked: Message, data: bytes) -> list[bytes]:
        return [answer(asked, *(replace_kind(each) for each in asked.varbinds))]

    def replace_kind(each: Any) -> Any:
        return each._replace(kind="no-such-object")

    made = agents.Agent(nothing)
    stack.callback(made.stop)
    found = checked(tmp_path, old=agent(made.port))["old"]
    assert found.level is Level.WARNING
    assert "has no counter of pages that Locum knows" in found.text


def test_version_3_tells_a_wrong_user_and_each_wrong_key(stack: ExitStack, tmp_path: Path) -> None:
    server = snmpd.Snmpd(tmp_path / "snmpd")
    stack.callback(server.stop)
    right = User(snmpd.USER, "sha256", snmpd.AUTH_KEY.encode(), "aes128", snmpd.PRIV_KEY.encode())
    users = {
        "right": right,
        "user": replace(right, name="nobody"),
        "auth": replace(right, auth_key=b"another-key"),
        "priv": replace(right, priv_key=b"another-key"),
    }
    found = checked(
        tmp_path,
        **{name: replace(agent(server.port, version=3, user=user), timeout=1.0) for name, user in users.items()},
        away=agent(free_port(), version=3, user=right),
    )
    assert found["right"].level is Level.WARNING  # it lets us read, and is no copier
    assert {found[name].level for name in ("user", "auth", "priv")} == {Level.ERROR}
    assert "does not know the user" in found["user"].text
    assert "the authentication key" in found["auth"].text
    assert "the privacy key" in found["priv"].text
    assert "another-key" not in str(found)


def test_a_long_fleet_that_is_silent_is_checked_in_bounded_time_and_few_lines(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meters, "WEB_PORTS", (free_port(),))
    silent = copier(stack, Machine("1", asleep=True))
    answers = copier(stack, Machine("2"))
    fleet = {f"c{number:03}": agent(silent) for number in range(300)} | {"z": agent(answers)}
    config = replace(loaded(tmp_path, SMALL), snmp=SnmpConfig(fleet))
    began = time.monotonic()
    found = list(meters.findings(config))
    assert time.monotonic() - began < 10
    assert len(found) == meters.MOST_LINES + 2
    assert any("the same of 290 more: c010, c011" in each.text for each in found)
    assert [each.what for each in found if each.level is Level.OK] == ["meters z"]
    monkeypatch.setattr(meters, "LONGEST", 0.2)
    assert any("was not asked to the end" in each.text for each in meters.findings(config))
