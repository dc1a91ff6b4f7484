"""Agents that are silent, strange or hostile: each reading ends, bounded and with the right words."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.simulator.machine import KYOCERA, Machine
from protocols.snmp.asking import MOST_REQUESTS, MOST_ROWS
from protocols.snmp.messages import Message, Pdu, Varbind, decode
from proxy.commands import Command, ReadMeters
from proxy.events import Event, MetersRead, MetersUnread
from proxy.metering import agents as lab
from proxy.net.driver import this_moment
from proxy.net.reactor import lean_reactor
from proxy.net.snmp.manager import SnmpManager
from tests.peers import snmpd, snmpsim
from tests.peers.agents import Agent, Behaviour, answer, read_meters
from tests.peers.ports import free_port

QUICK = {"version": 2, "community": "public", "timeout": 0.3, "retries": 1}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as open_:
        yield open_


def agent(stack: ExitStack, behaviour: Behaviour) -> Agent:
    made = Agent(behaviour)
    stack.callback(made.stop)
    return made


def machine_behind(machine: Machine) -> Behaviour:
    def behave(asked: Message, data: bytes) -> list[bytes]:
        said = machine.answer(data, time.monotonic())
        return [said] if said is not None else []

    return behave


def one(port: int, **how: Any) -> dict[str, Any]:
    found: dict[str, Any] = read_meters([{"name": "a", "port": port, **QUICK, **how}])
    return {**found["results"]["a"], "dropped": found["dropped"]}


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("plain", [False, True])
def test_a_machine_of_the_lab_is_read_as_it_is(stack: ExitStack, version: int, plain: bool) -> None:
    machine = Machine("7", plain=plain)
    machine.make("copy", 30, 10)
    machine.make("print", 5)
    machine.make("scan", 3)
    told = one(agent(stack, machine_behind(machine)).port, version=version)
    wanted = {"total": 35} if plain else machine.meters
    assert {name: told["meters"].get(name) for name in wanted} == wanted
    assert (told["model"], told["serial"]) == ("Lab copier 7", "LAB7-1")


def test_a_silent_agent_may_be_a_wrong_community_and_that_is_said(stack: ExitStack) -> None:
    told = one(agent(stack, machine_behind(Machine("1", community=b"other"))).port)
    assert told["kind"] == "silent"
    assert "the community is wrong" in told["why"]


def test_a_host_without_an_agent_is_told_from_silence() -> None:
    told = one(free_port())
    assert told["kind"] == "nobody"
    assert "nobody listens" in told["why"]


def test_an_answer_that_denies_access_is_told_from_silence(stack: ExitStack) -> None:
    told = one(agent(stack, lambda asked, data: [answer(asked, *asked.varbinds, status=16, index=0)]).port)
    assert told["kind"] == "denied"


def test_what_is_no_answer_to_the_request_is_counted_and_dropped(stack: ExitStack) -> None:
    def strange(asked: Message, data: bytes) -> list[bytes]:
        right = answer(asked, *(Varbind(each.oid, "integer", 1) for each in asked.varbinds))
        other = answer(replace(asked, request=asked.request ^ 1), *asked.varbinds)
        foreign = answer(replace(asked, community=b"private"), *asked.varbinds)
        return [b"\x30", bytes(900), data, other, foreign, right[:-3]]

    told = one(agent(stack, strange).port)
    assert told["kind"] == "unreadable"
    assert sum(told["dropped"].values()) >= 6
    assert told["dropped"]["snmp-community"] >= 1


def test_a_flood_ends_a_reading_at_once(stack: ExitStack) -> None:
    began = time.monotonic()
    told = one(agent(stack, lambda asked, data: [b"\xff" * 1400] * 100).port, timeout=5.0)
    assert told["kind"] == "unreadable"
    assert time.monotonic() - began < 5


def test_an_endless_walk_and_one_that_goes_round_are_ended_and_said(stack: ExitStack) -> None:
    rounds = {"n": 0}

    def endless(asked: Message, data: bytes) -> list[bytes]:
        life = Varbind("1.3.6.1.2.1.43.10.2.1.4.1.1", "counter32", 7)
        if asked.pdu is Pdu.GET:
            absent = (Varbind(each.oid, "no-such-object") for each in asked.varbinds)
            return [answer(asked, *(life if each.oid == life.oid else each for each in absent))]
        rounds["n"] += 1
        column = asked.varbinds[0].oid
        if column.startswith("1.3.6.1.2.1.43.10.2.1.4"):
            return [answer(asked, life)]
        root = ".".join(column.split(".")[:11])
        last = int(column.split(".")[-1]) if column != root else 0
        rows = (Varbind(f"{root}.{last + step}", "integer", 1) for step in range(1, 17))
        return [answer(asked, *rows)]

    made = agent(stack, endless)
    told = one(made.port)
    assert any("goes round" in each for each in told["troubles"])
    assert any("has no end" in each or "too many requests" in each for each in told["troubles"])
    assert rounds["n"] <= MOST_REQUESTS + MOST_ROWS
    assert told["meters"] == {"total": 7}


def test_a_counter_of_two_to_the_63_is_no_counter(stack: ExitStack) -> None:
    def huge(asked: Message, data: bytes) -> list[bytes]:
        if asked.pdu is not Pdu.GET:
            return [answer(asked, Varbind(asked.varbinds[0].oid, "end-of-mib"))]
        values = []
        for each in asked.varbinds:
            if each.oid == "1.3.6.1.2.1.1.2.0":
                values.append(Varbind(each.oid, "oid", f"{KYOCERA}.41"))
            else:
                values.append(Varbind(each.oid, "counter64", 1 << 63))
        return [answer(asked, *values)]

    told = one(agent(stack, huge).port)
    assert told["vendor"] == "Kyocera"
    assert told["meters"] == {}


def test_an_agent_that_can_answer_only_one_object_at_a_time_is_read(stack: ExitStack) -> None:
    machine = Machine("1")
    machine.make("copy", 12)

    def small(asked: Message, data: bytes) -> list[bytes]:
        if len(asked.varbinds) > 1:
            return [answer(asked, *asked.varbinds, status=1)]
        said = machine.answer(data, time.monotonic())
        return [said] if said is not None else []

    assert one(agent(stack, small).port)["meters"]["copy"] == 12


class Waiting:
    """A flow that waits for readings."""

    def __init__(self) -> None:
        self.told: list[Event] = []

    def handle(self, event: Event) -> list[Command]:
        self.told.append(event)
        return []


def turned(reactor: Any, until: Callable[[], object], within: float = 5.0) -> None:
    """Let the reactor work by hand."""
    deadline = time.monotonic() + within
    while not until():
        assert time.monotonic() < deadline
        reactor.iterate(0.01)


def test_who_waits_for_a_reading_is_told_when_the_settings_change_or_it_takes_too_long(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    reactor, flow = lean_reactor(), Waiting()
    manager = SnmpManager(reactor, lambda to, event: flow.told.append(event), this_moment)
    stack.callback(lambda: (manager.close(), reactor.iterate(0)))
    machine = Machine("1", asleep=True)
    port = agent(stack, machine_behind(machine)).port
    manager.configure({"a": lab.Agent("127.0.0.1", port)})
    asked = ReadMeters("a", flow, 1, ("1.3.6.1.2.1.1.3.0",))
    manager.read(asked)
    manager.configure({"a": lab.Agent("127.0.0.1", port, timeout=9.0)})
    turned(reactor, lambda: flow.told)
    assert isinstance(flow.told[0], MetersUnread)
    assert manager.under_way == 0
    monkeypatch.setattr("proxy.net.snmp.manager.LONGEST", 0.1)
    manager.read(replace(asked, token=2))
    turned(reactor, lambda: len(flow.told) > 1)
    assert isinstance(flow.told[1], MetersUnread)
    assert flow.told[1].kind == "unreadable"
    machine.asleep = False
    manager.read(replace(asked, token=3))
    turned(reactor, lambda: len(flow.told) > 2)
    assert isinstance(flow.told[2], MetersRead)


def test_a_lost_request_is_sent_again(stack: ExitStack) -> None:
    machine = Machine("1")
    machine.make("copy", 12)
    seen: set[int] = set()

    def forgetful(asked: Message, data: bytes) -> list[bytes]:
        if asked.request not in seen:
            seen.add(asked.request)
            return []
        said = machine.answer(data, time.monotonic())
        return [said] if said is not None else []

    assert one(agent(stack, forgetful).port)["meters"]["copy"] == 12


def test_a_wrong_user_a_wrong_key_and_silence_are_told_apart_in_version_3(stack: ExitStack, tmp_path: Path) -> None:
    server = snmpd.Snmpd(tmp_path / "snmpd")
    stack.callback(server.stop)
    right = {
        "name": snmpd.USER, "auth": "sha256", "auth_key": snmpd.AUTH_KEY, "priv": "aes128", "priv_key": snmpd.PRIV_KEY,
    }  # fmt: skip
    users = {
        "right": right,
        "user": {**right, "name": "somebody-else"},
        "auth": {**right, "auth_key": "another-auth-key"},
        "priv": {**right, "priv_key": "another-priv-key"},
        "level": {**right, "priv": "", "priv_key": ""},
    }
    agents: list[dict[str, Any]] = [
        {"name": name, "port": server.port, "version": 3, "user": user, "timeout": 1.0} for name, user in users.items()
    ]
    silent = {"name": "silent", "port": free_port(), "version": 3, "user": right, "timeout": 0.3, "retries": 0}
    found = read_meters([*agents, silent])["results"]
    assert "meters" in found["right"], found["right"]
    assert {name: told.get("kind") for name, told in found.items()} == {
        "right": None, "user": "denied", "auth": "denied", "priv": "denied", "level": "denied",
        "silent": "silent",
    }  # fmt: skip
    assert "does not know the user" in found["user"]["why"]
    assert "authentication key" in found["auth"]["why"]
    assert "privacy key" in found["priv"]["why"]


def test_a_device_with_contexts_is_read_in_the_one_that_is_named(stack: ExitStack, tmp_path: Path) -> None:
    life = "1.3.6.1.2.1.43.10.2.1.4.1.1"
    machines: dict[str, snmpsim.Rows] = {
        name: {snmpsim.UPTIME: ("67", "100"), life: ("65", pages)} for name, pages in (("left", "11"), ("right", "22"))
    }
    options = ["--v3-user=locum", "--v3-auth-key=auth-key-1", "--v3-auth-proto=SHA256"]
    simulated = snmpsim.serve(
        tmp_path / "data", machines, [*options, "--v3-priv-key=priv-key-1", "--v3-priv-proto=AES"]
    )
    stack.callback(simulated.stop)
    user = {"name": "locum", "auth": "sha256", "auth_key": "auth-key-1", "priv": "aes128", "priv_key": "priv-key-1"}
    asked = [
        {"name": name, "port": simulated.port, "version": 3, "user": user, "context": name, "retries": 0}
        for name in ("left", "right", "middle")
    ]
    found = read_meters(asked)["results"]
    assert [found[name].get("meters") for name in ("left", "right")] == [{"total": 11}, {"total": 22}]
    assert found["middle"]["kind"] in ("denied", "silent")


def test_pysnmp_is_loaded_only_for_a_device_of_version_3(stack: ExitStack, tmp_path: Path) -> None:
    plain = {"name": "a", "port": free_port(), **QUICK}
    user = {"name": "locum"}
    assert read_meters([plain])["pysnmp"] is False
    secure = {"name": "b", "port": free_port(), "version": 3, "user": user, "timeout": 0.2, "retries": 0}
    assert read_meters([plain, secure])["pysnmp"] is True


def test_an_answer_as_large_as_udp_allows_is_read_and_one_with_too_many_objects_dropped(stack: ExitStack) -> None:
    machine = Machine("1")
    machine.make("copy", 12)

    def talkative(asked: Message, data: bytes) -> list[bytes]:
        said = machine.answer(data, time.monotonic())
        more = [Varbind(f"1.3.6.1.4.1.32473.{row}", "octets", bytes(3000)) for row in range(20)]
        return [answer(asked, *decode(said).varbinds, *more)] if said is not None else []

    def overflowing(asked: Message, data: bytes) -> list[bytes]:
        return [answer(asked, *(Varbind(f"1.3.6.1.4.1.32473.{row}", "integer", 1) for row in range(2000)))]

    assert one(agent(stack, talkative).port)["meters"]["copy"] == 12
    told = one(agent(stack, overflowing).port)
    assert (told["kind"], told["dropped"]) == ("unreadable", {"snmp-too-many": 2})
