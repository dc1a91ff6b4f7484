"""PaperCut servers that answer badly: told apart, said once a minute, nothing lost. Issue 3, "Bad input".

One Locum in front of a server of each kind, all at once, so that nobody waits for eight outages one after the other.
What is no proof of life (HTML, half a document, 503, too much, nothing) becomes an outage; what the server itself says
(HTTP 500, a refused address, a refused token) is an alarm and never one. `dialects/papercut.md`, "Who may call".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.peers.appliance import table
from tests.peers.floor import Floor
from tests.peers.office import ADA, write_users
from tests.peers.ports import LOOPBACK, free_port
from tests.peers.printshop import QUICK, Printshop
from tests.peers.simulated import SimulatedServer
from tests.peers.terminal import GRANTED, STORED, UNAVAILABLE
from tests.peers.waiting import eventually

OUTAGES: dict[str, dict[str, object]] = {
    name: {"answer": name} for name in ("html", "half-xml", "503", "huge", "never")
}
ALARMS: dict[str, dict[str, object]] = {"500": {"answer": "500"}, "address": {"refuse_address": True}}
TOKEN_REFUSED = "token"
KINDS = {**OUTAGES, **ALARMS}
PATIENT = {**QUICK, "answer_timeout": "3s"}
"""Eight servers share the processors with all else: who has not read 1 MiB in half a second is not told it was much."""


@dataclass
class Street:
    """Locum, and behind each of its listeners a server of another kind."""

    shop: Printshop
    servers: dict[str, SimulatedServer]
    ports: dict[str, int]
    floor: Floor

    def upstream(self, name: str) -> dict[str, Any]:
        (found,) = [each for each in self.shop.status()["upstreams"] if each["name"] == name]
        return dict(found)

    def lines(self, name: str) -> list[tuple[str, str]]:
        """Level and text of what App.Log has about this server."""
        rows = self.shop.query("SELECT level, text FROM app_log WHERE text LIKE ? ORDER BY seq", f"{name}:%")
        return [(row["level"], row["text"]) for row in rows]


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    home: Path = tmp_path_factory.mktemp("street")
    users = write_users(home / "users.csv")
    with ExitStack() as endings:
        servers = {name: SimulatedServer(home / name, "--users", str(users)) for name in (*KINDS, TOKEN_REFUSED)}
        for server in servers.values():
            endings.callback(server.stop)
        with ThreadPoolExecutor() as starting:
            list(starting.map(lambda server: server.start(within=30), servers.values()))
        ports = {name: free_port() for name in KINDS}
        more = ""
        for name, port in ports.items():
            keys = {"dialect": "papercut", "url": servers[name].url, "token_file": "hq.token"}
            more += table("[[upstream]]", {"name": name, **PATIENT, **keys})
            keys = {"dialect": "terminal", "bind": LOOPBACK[4], "port": str(port), "upstream": name}
            more += table("[[listen]]", keys).replace(f'"{port}"', str(port))
        shop = Printshop.before_papercut(
            home / "locum",
            servers[TOKEN_REFUSED].url,
            keys={"name": TOKEN_REFUSED, "token_file": str(home / "locum" / "wrong.token")},
            listen={"upstream": TOKEN_REFUSED},
            offline={"delay": "300ms"},
            more=more,
        )
        shop.write_secret("wrong.token", b"another-token")
        ports[TOKEN_REFUSED] = shop.port
        endings.callback(shop.stop)
        floor = Floor()
        endings.callback(floor.close)
        shop.start()
        yield Street(shop, servers, ports, floor)


def is_well(upstream: dict[str, Any]) -> bool:
    """Whether it is online and nothing is wrong with it."""
    return upstream["state"] == "online" and not upstream["trouble"]


def test_each_way_of_answering_badly_is_told_apart_and_no_job_is_lost(street: Street) -> None:
    """Five outages and two alarms at once; jobs are kept; when the servers are well, each is booked once."""
    eventually(lambda: all(street.upstream(name)["proven"] for name in KINDS), 10, "all are proven")
    terminals = {name: street.floor.terminal(street.ports[name], f"KM-{name}") for name in KINDS}
    sessions = {name: terminal.log_in(ADA) for name, terminal in terminals.items()}
    for name, switches in KINDS.items():
        street.servers[name].switch(**switches)

    def all_told() -> bool:
        states = {each["name"]: each for each in street.shop.status()["upstreams"]}
        away = all(states[name]["state"] == "offline" for name in OUTAGES)
        return away and all(states[name]["trouble"] for name in ALARMS)

    eventually(all_told, 30, "outages are outages, alarms are alarms")
    for name in ALARMS:
        assert street.upstream(name)["state"] == "online", f"{name} is no outage"
        assert terminals[name].swipe(ADA, within=8).status == UNAVAILABLE
    for name in OUTAGES:
        assert terminals[name].swipe(ADA).status == GRANTED
    for name, terminal in terminals.items():
        for pages in (2, 3):
            assert terminal.job(sessions[name], pages=pages) == STORED
    told = {name: street.lines(name) for name in KINDS}
    for lines in told.values():
        most = Counter(lines).most_common(1)[0]
        assert most[1] == 1, f"said more often than once a minute: {most}"
    words = {name: " ".join(text for _, text in lines).removeprefix(name) for name, lines in told.items()}
    for name, expected in (
        ("html", "web page"),
        ("half-xml", "XML"),
        ("503", "503"),
        ("huge", "MiB"),
        ("500", "500"),
        ("address", "address"),
    ):
        assert expected in words[name], f"{name}: {words[name]}"
    for name in ALARMS:
        assert [level for level, _ in told[name] if level == "error"], f"{name}: {told[name]}"

    for name in KINDS:
        street.servers[name].switch()

    def booked(name: str) -> list[tuple[Any, ...]]:
        return street.servers[name].query("SELECT user, pages FROM jobs ORDER BY pages")

    wanted = {name: [("ada", 2), ("ada", 3)] for name in KINDS}
    eventually(lambda: {name: booked(name) for name in KINDS} == wanted, 40, "both jobs are booked at each", every=0.1)
    eventually(lambda: all(is_well(street.upstream(name)) for name in KINDS), 10, "all are online, without trouble")
    assert street.shop.query("SELECT * FROM in_doubt") == []


def test_a_refused_token_never_proves_the_server_and_is_said(street: Street) -> None:
    """A wrong token must not open the copiers, nor count as an outage; the job is kept."""
    told = street.upstream(TOKEN_REFUSED)
    assert told["proven"] is False
    assert told["state"] in ("online", "grace")
    assert "token" in str(told["trouble"])
    terminal = street.floor.terminal(street.ports[TOKEN_REFUSED], "KM-token")
    assert terminal.swipe(ADA, within=8).status == UNAVAILABLE
    assert terminal.job(1, pages=1) == STORED
    assert len([text for _, text in street.lines(TOKEN_REFUSED) if "token" in text.removeprefix("token:")]) == 1
    street.servers[TOKEN_REFUSED].kill()
    eventually(lambda: street.upstream(TOKEN_REFUSED)["state"] == "grace", 10, "away, and never proven")
    assert terminal.swipe(ADA, within=8).status == UNAVAILABLE
    assert int(street.upstream(TOKEN_REFUSED)["outbox"]["waiting"]) == 1
