"""In line before several servers behind a gateway, with two copiers: who is who is kept for each of them.

    copiers 10.9.0.1, 10.9.0.3 -- switch -- Locum -- gateway -- 10.10.0.2 and .3 (one upstream), 10.10.0.5 (another)

The frames towards the servers have the gateway's MAC address, which is all that the bridge sees of what is behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.e2e.in_line import ACCT, AUTH, SECRET, InLine, Tap, ends, in_line, is_refusal, login_goes_on, tap
from tests.peers.appliance import table
from tests.peers.freeradius import FreeRadius
from tests.peers.knocking import ACCEPT
from tests.peers.netns import GATEWAY, behind_gateway, wire, with_copiers
from tests.peers.skips import need_program
from tests.peers.waiting import eventually

SECOND_COPIER = ("10.9.0.3", "fd00:9::3")
ALSO, OTHER = "10.10.0.3", "10.10.0.5"
FAMILIES = pytest.mark.parametrize("v6", [False, True], ids=["IPv4", "IPv6"])


@dataclass
class Campus:
    """Namespaces of the second copier and of the gateway, whose MAC address towards the copiers is `gateway_mac`."""

    office: InLine
    other: FreeRadius
    copier: str
    copier_mac: str
    gateway: str
    gateway_mac: str

    def first(self, v6: bool) -> tuple[str, str, str]:
        """A copier's namespace, MAC address and IP address."""
        line = self.office.line
        return line.copier, line.copier_mac, line.copier_at[v6]

    def second(self, v6: bool) -> tuple[str, str, str]:
        return self.copier, self.copier_mac, SECOND_COPIER[v6]

    def start(self, server: FreeRadius) -> None:
        with self.office.line.inside(self.office.line.server):
            server.start()


@pytest.fixture(scope="module")
def campus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campus]:
    need_program("nft", "nftables")
    need_program("ping", "iputils-ping")
    home = tmp_path_factory.mktemp("campus")
    with ExitStack() as endings:
        line = endings.enter_context(wire())
        gateway = behind_gateway(line)
        (copier,) = with_copiers(line, SECOND_COPIER)
        for namespace in (line.copier, copier):
            line.default_route(namespace, GATEWAY[0])
        for address in (ALSO, OTHER):
            line.ip(line.server, "addr", "add", f"{address}/24", "dev", "s0")
        clients = [{"network": "10.0.0.0/8", "secret": SECRET}]
        ports = {"auth_port": AUTH, "accounting_port": ACCT}
        more = table(
            "[[upstream]]",
            {"name": "lab", "dialect": "radius", "address": OTHER, "secret": SECRET, **ports}
            | {"answer_timeout": "500ms", "probe_interval": "500ms"},
        ) + table(
            "[[listen]]",
            {"dialect": "radius", "bind": OTHER, **ports, "upstream": "lab", "clients": clients},
        )
        servers = (line.server_at[0], ALSO, line.server_at[1])
        office = endings.enter_context(in_line(line, home, servers=servers, binds=(line.server_at[0], "::"), more=more))
        with line.inside(line.server):
            other = FreeRadius(home / "other", secret=SECRET, hosts=[OTHER], ports=(AUTH, ACCT), clients=["10.0.0.0/8"])
            endings.callback(other.stop)
            other.start()
        office.stand()
        yield Campus(office, other, copier, line.mac(copier, "c0"), gateway, line.mac(gateway, "g0"))


def seen(end: Tap, port: int) -> set[tuple[str, str, str, str]]:
    return {ends(frame) for frame in end.packets(port)}


@FAMILIES
def test_each_copiers_frames_are_its_own_on_the_way_to_the_gateway(campus: Campus, v6: bool) -> None:
    """Two copiers at a time, and each gets its own answers."""
    line, server = campus.office.line, campus.office.line.server_at[v6]
    with ExitStack() as open_ones:
        at_gateway = open_ones.enter_context(tap(line, campus.gateway, "g0"))
        taps, logins = [], []
        for number, (namespace, _, _) in enumerate((campus.first(v6), campus.second(v6))):
            taps.append(open_ones.enter_context(tap(line, namespace, "c0")))
            how = {"namespace": namespace, "name": f"KM-{number}"}
            logins.append(open_ones.enter_context(login_goes_on(campus.office, v6=v6, **how)))
        eventually(lambda: all(each.answered(10) for each in logins))
        for each in logins:
            assert {login.code for login in each.finish()} == {ACCEPT}
            assert {login.sendings for login in each.logins} == {1}
        both = set()
        for at_copier, (_, mac, address) in zip(taps, (campus.first(v6), campus.second(v6)), strict=True):
            own = {(mac, campus.gateway_mac, address, server), (campus.gateway_mac, mac, server, address)}
            came = {ends(each) for each in at_copier.packets(AUTH) if each in at_copier.came}
            assert came == {(campus.gateway_mac, mac, server, address)}
            assert own <= seen(at_copier, AUTH)
            both |= own
        # Beside them there are Locum's own probes, of the other IP version too.
        assert {each for each in seen(at_gateway, AUTH) if server in each} == both
    campus.office.wait_until_decided("server", *(login.card for each in logins for login in each.logins))


def test_both_addresses_of_an_upstream_answer_those_who_ask_them(campus: Campus) -> None:
    office = campus.office
    for number, address in enumerate((office.line.server_at[0], ALSO)):
        card = f"A5A5A5{number:02X}"
        assert office.login(card, to=(address, AUTH)) == ["Access-Accept"]
        office.wait_until_decided("server", card)


def test_two_upstreams_are_each_asked_for_their_own_copiers(campus: Campus) -> None:
    """One is away: its logins are Locum's, and the other's are not touched by it."""
    office = campus.office
    assert office.login("B6B6B600", to=(OTHER, AUTH)) == ["Access-Accept"]
    with tap(office.line, campus.gateway, "g0") as at_gateway:
        assert office.login("B6B6B601", to=(OTHER, AUTH)) == ["Access-Accept"]
        there = (office.line.copier_mac, campus.gateway_mac, office.line.copier_at[0], OTHER)
        assert there in seen(at_gateway, AUTH)
    office.wait_until_decided("server", "B6B6B600", "B6B6B601")

    def states() -> dict[str, str]:
        return {each["name"]: each["state"] for each in office.locum.status()["upstreams"]}

    eventually(lambda: states() == {"hq": "online", "lab": "online"}, 10)
    campus.other.kill()
    eventually(lambda: states()["lab"] == "offline", 10)
    assert office.login("B6B6B602", to=(OTHER, AUTH)) == ["Access-Accept"]
    assert office.login("B6B6B603") == ["Access-Accept"]
    assert states()["hq"] == "online"
    office.wait_until_decided("locum", "B6B6B602")
    office.wait_until_decided("server", "B6B6B603")
    campus.start(campus.other)
    eventually(lambda: states()["lab"] == "online", 15)
    assert office.login("B6B6B604", to=(OTHER, AUTH)) == ["Access-Accept"]
    office.wait_until_decided("server", "B6B6B604")


def test_the_server_is_gone_behind_its_gateway_and_what_was_kept_is_forwarded_as_each_copiers(campus: Campus) -> None:
    """The gateway says so by ICMP, to the copier as it thinks; the copier does not hear of it."""
    office = campus.office
    line = office.line
    for v6 in (False, True):
        assert office.login(v6=v6) == ["Access-Accept"]
    office.locum.wait_until_proven()
    with tap(line, line.copier, "c0") as at_copier, tap(line, campus.gateway, "g0") as at_gateway:
        line.ip(line.server, "link", "set", "s0", "down")
        office.locum.wait_for_state("offline", within=15)

        eventually(lambda: any(map(is_refusal, at_gateway.frames())), 10, "the gateway finds nobody")
        expected: dict[str, str] = {}
        for namespace, _, address in (campus.first(False), campus.second(False), campus.second(True)):
            session, v6 = f"s{len(expected)}", ":" in address
            card = f"C7C7C7{len(expected):02X}"
            assert office.login(card, namespace=namespace, name=address, v6=v6) == ["Access-Accept"]
            codes = office.record(session, card, namespace=namespace, name=address, v6=v6)
            assert codes == ["Accounting-Response"]
            office.wait_until_decided("locum", card)
            expected[session] = address
        assert not any(map(is_refusal, at_copier.frames()))
    line.link_again(line.server, "s0", line.server_at[1])
    line.default_route(line.server, GATEWAY[1])
    office.locum.wait_until_drained()
    eventually(lambda: len(office.server.logged()) == len(expected))
    whence = {
        each["Acct-Session-Id"]: each.get("Packet-Src-IP-Address") or each.get("Packet-Src-IPv6-Address")
        for each in office.server.logged()
    }
    assert whence == expected
