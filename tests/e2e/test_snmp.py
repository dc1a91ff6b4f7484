"""SNMP towards the management side: Locum's own agent, the proxy of copiers, and traps kept; asked by Net-SNMP's own
programs, in front of a real `locum run`. Issue 6, items 4 to 6.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.snmp.working import engine_id
from appliance.state_dir import installation_key
from storage.verify import verify
from tests.peers.appliance import table
from tests.peers.netsnmp import AUTH, ENGINE, NAMES, PRIV, SECURE, USER, Asker, Daemon, at, snmpd, snmptrapd
from tests.peers.office import Office, open_office
from tests.peers.ports import LOOPBACK, free_port
from tests.peers.waiting import eventually, let_pass, never_within

LOCATION, CONTACT, DESCR = "1.3.6.1.2.1.1.6.0", "1.3.6.1.2.1.1.4.0", "1.3.6.1.2.1.1.1.0"
AGE, SOURCE = "LOCUM-MIB::locumProxyAge.0", "LOCUM-MIB::locumProxySource.0"
LINK_DOWN, OUR_TRAP = "1.3.6.1.6.3.1.1.5.3", "1.3.6.1.4.1.8072.2.3.0.1"
ROOT = "1.3.6.1.4.1.8072.9999.9999.5601"
MARK = f"{ROOT}.0.7"
REPLAYED_WITHIN = 1.5
FIGURES_FRESH = 2.1


@dataclass
class Place:
    office: Office
    asker: Asker
    agent: int
    copiers: dict[str, int]
    copier: Daemon
    traps: int
    server: Daemon
    manager: Daemon

    def dropped(self, reason: str) -> int:
        return int(self.office.shop.status()["dropped"].get(reason, 0))

    def row(self, table_of: str, name: str) -> str:
        return f"LOCUM-MIB::{table_of}.'{name}'"

    def proxy(self, column: str, device: str) -> int:
        """A column of the proxy's table; figures are at most two seconds old."""
        return int(self.asker.get(self.agent, f"LOCUM-MIB::locumProxy{column}.'{device}'")[0].split()[0])

    def kept(self) -> list[tuple[str, str, str]]:
        rows = self.office.shop.query("SELECT version, kind, client FROM traps ORDER BY seq")
        return [tuple(row) for row in rows]  # type: ignore[misc]

    def outcomes(self) -> list[str]:
        rows = self.office.shop.query(
            "SELECT outcome FROM traps LEFT JOIN trap_forwards ON trap_forwards.trap = traps.seq ORDER BY traps.seq"
        )
        return [row[0] for row in rows]

    def trap(self, number: int, *access: str, program: str = "snmptrap") -> None:
        """A trap that carries a number; an inform must be acknowledged."""
        version = ["-v2c", "-c", "old"] if not access else list(access)
        said = ["", LINK_DOWN, LOCATION, "s", f"number {number}"]
        if "-v1" in version:
            said = ["1.3.6.1.4.1.8072.3.2.10", "10.7.0.31", "6", "17", "55", LOCATION, "s", f"number {number}"]
        self.asker.says(program, *version, "-r1", "-t5", at(self.traps), *said)


def _agent_port(name: str, port: int, home: Path, **more: object) -> str:
    keys = {"bind": LOOPBACK[4], "user": USER, "auth_key": AUTH, "priv_key": PRIV}
    if port:
        keys["port"] = port  # type: ignore[assignment]
    return table(f"[snmp.{name}]", {**keys, **more})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home = tmp_path_factory.mktemp("snmp")
    with ExitStack() as endings:
        copier = snmpd(home / "copier")
        endings.callback(copier.stop)
        server = snmptrapd(home / "server", engine=ENGINE)
        endings.callback(server.stop)
        agent, traps, told = free_port(), free_port(), free_port()
        versions = {
            "OLD-1": {"version": "1", "community": "old"},
            "OLD-2": {"version": "2c", "community": "write"},
            "OLD-3": {
                "version": "3", "user": USER, "auth": "sha256", "auth_key": AUTH, "priv": "aes128", "priv_key": PRIV,
            },
        }  # fmt: skip
        copiers = {name: free_port() for name in versions}
        more = _agent_port("agent", agent, home, notify=[f"{LOOPBACK[4]}:{told}"],
                           community="watch")  # fmt: skip
        more += _agent_port(
            "proxy", 0, home, max_age="60s", community="watch",
            copiers=[{"device": name, "port": port} for name, port in copiers.items()],
        )  # fmt: skip
        more += table(
            "[snmp.traps]",
            {
                "bind": LOOPBACK[4],
                "port": traps,
                "server": f"{LOOPBACK[4]}:{server.port}",
                "upstream": "hq",
                "community": "old",
            },
        )
        for name, how in versions.items():
            more += table("[[device]]", {"id": name, "snmp": {"address": LOOPBACK[4], "port": copier.port, **how}})
        office = open_office(home / "office", endings, more=more)
        engine = engine_id(installation_key(office.shop.state_dir))
        manager = snmptrapd(home / "manager", told, f"0x{engine.hex()}")
        endings.callback(manager.stop)
        yield Place(office, Asker(home / "asker"), agent, copiers, copier, traps, server, manager)


# The agent


def test_the_agent_says_what_locum_status_says(place: Place) -> None:
    status = place.office.shop.status()
    name, version, state, entries = place.asker.get(
        place.agent,
        "LOCUM-MIB::locumName.0",
        "LOCUM-MIB::locumVersion.0",
        place.row("locumUpstreamState", "hq"),
        "LOCUM-MIB::locumLedgerEntries.0",
    )
    assert (name, version, state) == (status["name"], status["version"], "online")
    assert int(entries) <= place.office.shop.status()["ledger"]["entries"]


def test_walks_by_getnext_and_by_getbulk_see_the_same_objects(place: Place) -> None:
    names = []
    for program in ("snmpwalk", "snmpbulkwalk"):
        lines = place.asker.says(program, *SECURE, *NAMES, "-t5", "-Oq", at(place.agent), ROOT)
        names.append([line.split(" ")[0] for line in lines])
        assert any("locumUpstreamState.'hq'" in line and line.endswith(" online") for line in lines), lines
    assert set(names[0]) <= set(names[1])
    assert len(names[0]) > 25


def test_nothing_can_be_written(place: Place) -> None:
    done = place.asker.run("snmpset", *SECURE, *NAMES, at(place.agent), "LOCUM-MIB::locumName.0", "s", "x")
    assert done.returncode != 0
    assert "notWritable" in done.stderr


@pytest.mark.parametrize(
    ("reason", "says", "access"),
    [
        ("snmp-wrong-community", "Timeout", ("-v2c", "-c", "public")),
        ("snmp-version", "Timeout", ("-v1", "-c", "watch")),
        ("snmp-unknown-user", "Unknown user name", (*SECURE[:4], "mallory", *SECURE[5:])),
        ("snmp-wrong-digest", "Authentication failure", (*SECURE[:8], "another-long-key", *SECURE[9:])),
        ("snmp-decryption", "Decryption error|Timeout", (*SECURE[:12], "another-long-key")),
        ("snmp-security-level", "Unsupported security level", ("-v3", "-l", "authNoPriv", *SECURE[3:9])),
        ("snmp-security-level", "Unsupported security level", ("-v3", "-l", "noAuthNoPriv", *SECURE[3:5])),
        ("snmp-wrong-digest", "Authentication failure", (*SECURE[:6], "SHA-512", *SECURE[7:])),
    ],
)
@pytest.mark.parametrize("port", ["agent", "proxy"])
def test_who_may_not_ask_is_refused_and_counted(
    place: Place, port: str, reason: str, says: str, access: tuple[str, ...]
) -> None:
    before = place.dropped(reason)
    number = place.agent if port == "agent" else place.copiers["OLD-1"]
    assert re.search(says, place.asker.fails(number, *access))
    eventually(lambda: place.dropped(reason) > before, 5, f"{reason} is counted")


class Tap:
    """Stands between a program and a port, and remembers what went by."""

    def __init__(self, port: int) -> None:
        self.port = free_port()
        self.asked: list[bytes] = []
        self._target = (LOOPBACK[4], port)
        self._front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._front.bind((LOOPBACK[4], self.port))
        self._back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._back.settimeout(3)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            data, peer = self._front.recvfrom(65535)
            self.asked.append(data)
            self._back.sendto(data, self._target)
            try:
                self._front.sendto(self._back.recv(65535), peer)
            except TimeoutError:
                continue


@pytest.mark.parametrize("port", ["agent", "proxy"])
def test_a_message_that_comes_again_is_refused_and_counted(place: Place, port: str) -> None:
    number = place.agent if port == "agent" else place.copiers["OLD-2"]
    tap = Tap(number)
    place.asker.get(tap.port, DESCR)
    before = place.dropped("snmp-replayed")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.settimeout(REPLAYED_WITHIN)
        other.sendto(tap.asked[-1], (LOOPBACK[4], number))
        with pytest.raises(TimeoutError):
            other.recv(65535)
    eventually(lambda: place.dropped("snmp-replayed") == before + 1, 5, "the replay is counted")


def test_garbage_at_every_port_changes_nothing(place: Place) -> None:
    pieces = [b"", b"\x30", b"\x30\x84\xff\xff\xff\xff", bytes(2000), b"\x30\x03\x02\x01\x03", b"\xff" * 60_000]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        for port in (place.agent, place.traps, *place.copiers.values()):
            for piece in pieces:
                other.sendto(piece, (LOOPBACK[4], port))
    assert place.asker.get(place.agent, "LOCUM-MIB::locumName.0")
    assert place.office.shop.status()["dropped"].get("met-a-bug", 0) == 0


# The proxy


@pytest.mark.parametrize("device", ["OLD-1", "OLD-2", "OLD-3"])
@pytest.mark.parametrize("access", [SECURE, ("-v2c", "-c", "watch")], ids=["v3", "v2c"])
def test_a_copier_of_any_version_is_asked_by_v3_and_v2c(place: Place, device: str, access: tuple[str, ...]) -> None:
    assert place.asker.get(place.copiers[device], LOCATION, CONTACT, access=access) == ["cellar", "nobody"]
    lines = place.asker.says("snmpwalk", *access, "-m", "", "-t5", at(place.copiers[device]), "1.3.6.1.2.1.1")
    assert any("cellar" in line for line in lines)
    bulk = place.asker.says("snmpbulkwalk", *access, "-m", "", "-t5", at(place.copiers[device]), "1.3.6.1.2.1.1")
    assert [line.split(" =")[0] for line in bulk] == [line.split(" =")[0] for line in lines]


def test_what_the_copier_does_not_have_is_said_as_its_version_says_it(place: Place) -> None:
    missing = "1.3.6.1.2.1.43.10.2.1.4.1.1"
    assert "No Such" in place.asker.get(place.copiers["OLD-2"], missing)[0]
    done = place.asker.run("snmpget", *SECURE, "-m", "", at(place.copiers["OLD-1"]), missing)
    assert "noSuchName" in done.stdout + done.stderr


def test_a_storm_of_the_same_question_reaches_the_copier_once(place: Place) -> None:
    let_pass(FIGURES_FRESH)
    before = place.proxy("Sent", "OLD-2")
    oid = "1.3.6.1.2.1.1.5.0"
    askers = [
        threading.Thread(target=place.asker.get, args=(place.copiers["OLD-2"], oid), daemon=True) for _ in range(12)
    ]
    for each in askers:
        each.start()
    for each in askers:
        each.join(30)
    for _ in range(8):
        place.asker.get(place.copiers["OLD-2"], oid)
    let_pass(FIGURES_FRESH)
    assert place.proxy("Sent", "OLD-2") == before + 1


def test_age_and_source_can_be_asked_beside_the_counters(place: Place) -> None:
    port = place.copiers["OLD-3"]
    place.asker.get(port, "1.3.6.1.2.1.1.2.0")
    value, age, source, again = place.asker.get(port, LOCATION, AGE, SOURCE, CONTACT)
    assert (value, again) == ("cellar", "nobody")
    assert source in ("copier", "memory")
    assert re.match(r"0:0:\d\d:\d\d", age)
    assert place.asker.get(port, LOCATION, SOURCE)[1] == "memory"
    assert re.match(r"0:0:\d\d:\d\d", place.asker.get(port, AGE)[0])


def test_writes_are_refused_unless_allowed(place: Place) -> None:
    access = (*SECURE, *NAMES)
    done = place.asker.run("snmpset", *access, at(place.copiers["OLD-2"]), LOCATION, "s", "attic")
    assert "notWritable" in done.stderr
    assert place.asker.get(place.copiers["OLD-2"], LOCATION) == ["cellar"]


def test_a_silent_copiers_last_reading_is_given_and_says_so(place: Place) -> None:
    port = place.copiers["OLD-1"]
    place.asker.get(port, LOCATION, DESCR)
    sent_uptime = "1.3.6.1.2.1.1.9.1.3.1"
    place.copier.stop()
    try:
        assert place.asker.get(port, LOCATION, DESCR, SOURCE)[2] == "memory"
        assert "Timeout" in place.asker.fails(port, *SECURE, oid=sent_uptime, wait="5")
        # What is fresh is from memory; the copier is known to be silent all the same.
        assert place.asker.get(place.agent, place.row("locumProxySilent", "OLD-1"))
        eventually(
            lambda: place.asker.get(place.agent, place.row("locumProxySilent", "OLD-1")) == ["true"],
            6,
            "the copier is known to be silent",
            every=0.5,
        )
        assert place.asker.get(port, SOURCE) == ["lastReading"]
    finally:
        place.copier.start()


# Notifications


def test_outage_and_recovery_are_notified_and_traps_wait_meanwhile(place: Place) -> None:
    """While the server is there a trap goes on at once; while it is away it is kept, an inform acknowledged, and all of
    it goes out in order afterwards, each marked with the time it arrived. kill -9 in between loses nothing.
    """
    v3 = ("-v3", "-e", ENGINE, "-l", "authPriv", *SECURE[3:])
    place.trap(1)
    place.trap(2, "-v1", "-c", "old")
    place.trap(3, "-v2c", "-c", "old", program="snmpinform")
    place.trap(4, *v3)
    eventually(lambda: all(f"number {n}" in place.server.text() for n in (1, 2, 3, 4)), 10, "traps are forwarded")
    assert MARK not in place.server.text()
    ended = ["sent", "sent", "acknowledged", "sent"]
    eventually(lambda: place.outcomes() == ended, 10, "no outage came that they could have been lost in")

    place.office.go_offline()
    eventually(lambda: f"{ROOT}.0.1" in place.manager.text(), 10, "the outage is notified")
    for number in (11, 12, 13):
        place.trap(number)
    place.trap(14, "-v1", "-c", "old")
    place.trap(15, "-v2c", "-c", "old", program="snmpinform")
    place.trap(16, *v3)
    eventually(lambda: len(place.kept()) == 10, 5, "all are kept")
    assert [version for version, _, _ in place.kept()] == ["2c", "1", "2c", "3", "2c", "2c", "2c", "1", "2c", "3"]
    assert [kind for _, kind, _ in place.kept()][-2:] == ["inform", "opaque"]
    never_within(lambda: "number 11" in place.server.text(), 1.0, "nothing is forwarded while the server is away")
    place.office.shop.kill()
    place.office.shop.start()
    place.office.come_back()
    eventually(lambda: "number 16" in place.server.text(), 15, "all are forwarded")
    said = place.server.text()
    numbers = [int(each) for each in re.findall(r'"number (\d+)"', said)]
    assert numbers == [1, 2, 3, 4, 11, 12, 13, 14, 15, 16]
    assert len(re.findall(re.escape(MARK), said)) == 5, "one mark for each that could be read"
    arrived = [row[0] for row in place.office.shop.query("SELECT at FROM traps ORDER BY seq")]
    assert all(each in said for each in arrived[4:9])
    ended += [*["sent"] * 4, "acknowledged", "sent"]
    eventually(lambda: place.outcomes() == ended, 10, "what became of each is kept")
    shown = place.office.shop.status()
    assert shown["traps"] == {"waiting": 0, "kept": 0, "forwarded": 6}, "since the restart"
    assert {(each["device"], each["port"]) for each in shown["proxied"]} == set(place.copiers.items())
    assert "Traps        0 kept, 6 forwarded, 0 wait" in place.office.shop.run_to_its_end("status").stdout
    eventually(lambda: f"{ROOT}.0.2" in place.manager.text(), 10, "the recovery is notified")
    assert verify(place.office.shop.state_dir / "ledger.db").wrong is None


def test_a_trap_with_another_community_is_refused_and_counted(place: Place) -> None:
    before, kept = place.dropped("snmp-wrong-community"), len(place.kept())
    done = place.asker.run("snmpinform", "-v2c", "-c", "public", "-r0", "-t1", at(place.traps), "", LINK_DOWN)
    assert done.returncode != 0
    eventually(lambda: place.dropped("snmp-wrong-community") > before, 5)
    assert len(place.kept()) == kept
