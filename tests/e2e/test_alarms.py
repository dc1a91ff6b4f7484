"""Alarms leave the box: syslog over UDP and TCP, and the Prometheus endpoint. Issue 3, "Alarms leave the box".

The receivers are the test's own; what is scraped is compared with `locum status`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.peers.appliance import table
from tests.peers.office import ADA, BO, Office, open_office
from tests.peers.ports import LOOPBACK, free_port
from tests.peers.syslog import SyslogServer
from tests.peers.terminal import STORED
from tests.peers.waiting import eventually

CODE = "735912-Oak"
SAMPLE = re.compile(r"^(?P<name>[a-z_]+)(?:\{(?P<labels>[^}]*)\})? (?P<value>\S+)$")


class WatchedOffice(Office):
    """The line with its syslog server and its endpoint."""

    syslog: SyslogServer
    endpoint: str

    def figures(self) -> dict[str, float]:
        """The figures at the endpoint, by name and labels as they are written."""
        with urlopen(f"{self.endpoint}/metrics", timeout=5) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain")
            lines = answer.read().decode().splitlines()
        samples = [SAMPLE.match(line) for line in lines if not line.startswith("#")]
        return {
            f"{each['name']}{{{each['labels']}}}" if each["labels"] else each["name"]: float(each["value"])
            for each in samples
            if each is not None
        }


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedOffice]:
    with ExitStack() as endings:
        syslog, port = SyslogServer(), free_port()
        endings.callback(syslog.close)
        more = table("[alerts]", {"syslog": syslog.targets}) + table("[metrics]", {"bind": LOOPBACK[4], "port": port})
        home, offline = tmp_path_factory.mktemp("alarms"), {"environment": "education"}
        made = open_office(home, endings, offline=offline, more=more)
        office = WatchedOffice(made.server, made.shop, made.floor)
        office.syslog, office.endpoint = syslog, f"http://{LOOPBACK[4]}:{port}"
        office.locum("unlock-code", "set", stdin=CODE + "\n")
        yield office


def _has(messages: list[str], words: str) -> bool:
    return any(words in each for each in messages)


def test_an_outage_wrong_codes_and_the_return_reach_both_syslog_servers(office: WatchedOffice) -> None:
    """One message each, RFC 5424, with severity and context; neither card nor code leaves the box."""
    terminal = office.terminal("KM-1")
    session = terminal.log_in(ADA)
    assert terminal.job(session, pages=3) == STORED
    terminal.logout(session)
    office.go_offline()
    assert [terminal.unlock(f"wrong-code-{number}")[0] for number in range(5)] == [1] * 5
    office.locum("unlock", "KM-1", "--until-restored")
    session = terminal.log_in(BO)
    assert terminal.job(session, pages=4) == STORED
    terminal.logout(session)
    during = office.figures()
    assert during['locum_upstream_state{state="offline",upstream="hq"}'] == 1
    office.come_back()
    for messages in (office.syslog.udp, office.syslog.tcp):
        for words in ("offline mode: Locum answers", "5 wrong codes at KM-1", "by hand", "the server is back"):
            eventually(partial(_has, messages, words), 5, words)
        (offline,) = [each for each in messages if "offline mode: Locum answers" in each]
        head = re.match(r"<(\d+)>1 (\d{4}-\d\d-\d\dT[\d:.]+Z) \S+ locum \d+ (\S+) \[locum@32473 (.*?)\] (.*)", offline)
        assert head is not None, offline
        assert int(head[1]) == 16 * 8 + 4, "local0, warning"
        assert 'upstream="hq"' in head[4]
        assert 'state="offline"' in head[4]
        for hidden in (ADA, BO, CODE, "wrong-code-"):
            assert not [each for each in messages if hidden in each], hidden


def test_the_endpoint_has_the_figures_of_status(office: WatchedOffice) -> None:
    """State, outbox, devices, ledger, logins and jobs; any other path is 404."""
    terminal = office.terminal("KM-2")
    session = terminal.log_in(ADA)
    assert terminal.job(session, pages=1) == STORED
    office.shop.wait_until_drained()

    def settled() -> bool:
        """An answer is given again for a second, so what was scraped may be older than the status."""
        return office.figures()["locum_ledger_entries"] == int(office.locum_json("status")["ledger"]["entries"])

    eventually(settled, 10, "the endpoint and status agree", every=0.2)
    told, figures = office.locum_json("status"), office.figures()
    (upstream,) = told["upstreams"]
    for state in ("online", "grace", "offline", "recovering"):
        name = f'locum_upstream_state{{state="{state}",upstream="hq"}}'
        assert figures[name] == float(upstream["state"] == state), name
    assert figures['locum_upstream_proven{upstream="hq"}'] == 1
    for state in ("waiting", "sent", "in_doubt", "rejected"):
        assert figures[f'locum_outbox_records{{state="{state}",upstream="hq"}}'] == upstream["outbox"][state]
    assert figures["locum_ledger_jobs"] == told["ledger"]["jobs"]
    assert figures["locum_sessions"] == sum(each["sessions"] for each in told["devices"])
    stored = sum(value for name, value in figures.items() if name.startswith("locum_jobs_total"))
    assert stored == told["ledger"]["jobs"], "all of them since this start"
    granted = {name: value for name, value in figures.items() if name.startswith("locum_logins_total{")}
    assert sum(value for name, value in granted.items() if 'outcome="granted"' in name) == 3
    delivered = figures['locum_forwarded_total{outcome="delivered",upstream="hq"}']
    assert delivered == told["ledger"]["jobs"]
    assert figures["locum_commit_seconds_count"] > 0
    with pytest.raises(HTTPError, match="404"):
        urlopen(f"{office.endpoint}/", timeout=5)
