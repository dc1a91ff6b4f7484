"""ONLINE: a proxy that keeps what it relays. `dialects/radius.md`, "Online" and "Bad input"."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.line import Line, arrivals, assert_ledgered_once, wait_for_all
from tests.peers import wire
from tests.peers.copier import Copier
from tests.peers.freeradius import FreeRadius
from tests.peers.locum import Locum
from tests.peers.ports import LOOPBACK
from tests.peers.radclient import radclient
from tests.peers.waiting import eventually

CARDS = {"0A1B2C3D": "Welcome, Ada", "0BAD0BAD": None}
LOGIN = {"User-Name": '"0A1B2C3D"', "NAS-Identifier": '"copier-1"', "Message-Authenticator": "0x00"}


@pytest.mark.parametrize("family", [4, 6])
def test_answers_go_back_unchanged(
    family: int, tmp_path: Path, make_server: Callable[..., FreeRadius], make_locum: Callable[..., Locum]
) -> None:
    """radclient sees through Locum what it sees at the server itself, over IPv4 and IPv6 on both sides."""
    server = make_server(cards=CARDS)
    host = LOOPBACK[family]
    locum = make_locum(server, address=host, binds=[host]).start()
    locum.wait_until_proven()
    requests = [LOGIN, {**LOGIN, "User-Name": '"0BAD0BAD"'}]
    for request in requests:
        direct = radclient(tmp_path / "direct", host, server.auth_port, "auth", server.secret.decode(), [request])
        through = radclient(tmp_path / "through", host, locum.auth_port, "auth", locum.secret.decode(), [request])
        assert direct.replies, direct.output
        assert [reply.code for reply in through.replies] == [reply.code for reply in direct.replies], through.output
        unsigned = [
            {name: text for name, text in reply.attributes.items() if name != "Message-Authenticator"}
            for reply in (*direct.replies, *through.replies)
        ]
        assert unsigned[0] == unsigned[1]


def test_accounting_reaches_the_server_with_all_its_attributes(tmp_path: Path, make_line: Callable[..., Line]) -> None:
    """What radclient sends stands in FreeRADIUS's log, word for word, with Locum-Record-Id added."""
    line = make_line()
    sent = {
        "Acct-Status-Type": "Interim-Update",
        "Acct-Session-Id": '"s1"',
        "User-Name": '"0A1B2C3D"',
        "NAS-Identifier": '"copier-1"',
        "NAS-IP-Address": "10.7.0.31",
        "Acct-Delay-Time": "7",
        "Event-Timestamp": '"Nov 20 2026 09:00:00 UTC"',
        "Locum-Job-Kind": "Copy",
        "Locum-Job-Id": '"j1"',
        "Locum-Pages": "3",
        "Locum-Paper": '"A4"',
        "Locum-Document": "\"Übung '7'.pdf\"",
        "Called-Station-Id": '"x"',
    }
    run = radclient(tmp_path / "rc", LOOPBACK[4], line.locum.acct_port, "acct", line.locum.secret.decode(), [sent])
    assert run.codes == ["Accounting-Response"], run.output
    (logged,) = eventually(line.server.logged)
    for name, text in sent.items():
        if name != "Acct-Delay-Time":
            assert logged[name] == text.strip('"'), name
    assert 7 <= int(logged["Acct-Delay-Time"]) <= 9
    (row,) = line.locum.query("SELECT id FROM jobs")
    assert logged["Locum-Record-Id"] == row["id"]


def test_passwords_are_hidden_anew_for_the_server(make_line: Callable[..., Line]) -> None:
    """User-Password is re-encrypted where the secrets differ (RFC 2865 §2.3)."""
    line = make_line(cards={}, default="reject")
    users = line.server.home / "users"
    users.write_text('"ada" Cleartext-Password := "a password of more than sixteen"\n')
    config = line.server.home / "radiusd.conf"
    config.write_text(
        config.read_text()
        .replace("    detail {", "    pap {\n    }\n    detail {", 1)
        .replace("        files\n", "        files\n        pap\n", 1)
        .replace("    authenticate {\n", "    authenticate {\n        Auth-Type PAP {\n            pap\n        }\n")
    )
    line.server.kill()
    line.server.start()
    line.locum.wait_for_state("online")
    right = line.copier.swipe("ada", password=b"a password of more than sixteen")
    wrong = line.copier.swipe("ada", password=b"another")
    assert right is not None
    assert right.kind == "accept"
    assert wrong is not None
    assert wrong.kind == "reject"


def test_a_repeated_login_is_answered_from_the_earlier_answer(make_line: Callable[..., Line]) -> None:
    """RFC 5080 §2.2.2: the same datagram again gets the same bytes, although the server is dead by then."""
    line = make_line(cards=CARDS)
    request = line.copier.login_request("0A1B2C3D")
    first = line.copier.auth.exchange(request, line.copier.secret, 3.0, None)
    line.server.kill()
    again = line.copier.auth.exchange(request, line.copier.secret, 3.0, None)
    assert first is not None
    assert again is not None
    assert again.packet.raw == first.packet.raw


def test_a_repeated_record_is_kept_and_forwarded_once(make_line: Callable[..., Line]) -> None:
    """The same record under a new identifier and a later Acct-Delay-Time is a repeat: acknowledged, stored once."""
    line = make_line()
    first = line.copier.account(wire.STOP, "s1", user="0A1B2C3D", job="j1", pages=3)
    delayed = wire.attribute(wire.DELAY_TIME, 5)
    again = line.copier.account(wire.STOP, "s1", user="0A1B2C3D", job="j1", pages=3, extra=delayed)
    assert first is not None
    assert again is not None
    assert len(line.locum.query("SELECT seq FROM jobs")) == 1
    assert len(line.server.logged()) == 1


def test_online_jobs_are_in_the_ledger_too(make_line: Callable[..., Line]) -> None:
    """One complete list: what was relayed is kept, and marked as taken by the server."""
    line = make_line()
    for _ in range(5):
        line.shift.job("s1")
    wait_for_all(line.server, [line.shift])
    assert_ledgered_once(line.locum, line.shift.reported)
    line.locum.wait_until_drained()
    assert len(line.locum.query("SELECT seq FROM deliveries WHERE outcome = 'delivered'")) == 5


def test_online_logins_are_ledgered_with_the_servers_word(make_line: Callable[..., Line]) -> None:
    """Granted and refused, decided by the server."""
    line = make_line(cards=CARDS)
    line.copier.swipe("0A1B2C3D")
    line.copier.swipe("0BAD0BAD")

    def told() -> list[tuple[str, str]]:
        return [(row["outcome"], row["decided_by"]) for row in line.locum.query("SELECT * FROM logins ORDER BY seq")]

    eventually(lambda: told() == [("granted", "server"), ("refused", "server")], 3, "both logins are in the ledger")


def test_what_is_not_authentic_is_met_with_silence(
    make_line: Callable[..., Line], make_copier: Callable[..., Copier]
) -> None:
    """A wrong secret, a login without Message-Authenticator, an unknown client: no answer, nothing kept."""
    line = make_line(client={"network": "127.0.0.0/16"})
    stranger = make_copier(line.locum, secret=b"wrong-secret", name="stranger")
    outsider = make_copier(line.locum, source="127.9.0.1", name="outsider")
    assert stranger.swipe("0A1B2C3D", wait=0.4) is None
    assert stranger.account(wire.STOP, "s1", job="j1", pages=1, wait=0.4) is None
    assert outsider.swipe("0A1B2C3D", wait=0.4) is None
    assert outsider.account(wire.STOP, "s1", job="j1", pages=1, wait=0.4) is None
    assert line.copier.swipe("0A1B2C3D", wait=0.4, sign=False) is None
    assert line.copier.swipe("0A1B2C3D") is not None
    assert line.server.logged() == []
    assert line.locum.query("SELECT seq FROM jobs") == []


def test_one_client_may_be_excused_from_message_authenticator(make_line: Callable[..., Line]) -> None:
    """`require_message_authenticator = false` for old copiers."""
    line = make_line(client={"require_message_authenticator": False})
    assert line.copier.swipe("0A1B2C3D", sign=False) is not None


def test_a_quiet_discard_by_the_server_is_no_outage(make_line: Callable[..., Line]) -> None:
    """A request that the server drops without a word changes nothing: it still answers the probe."""
    line = make_line()
    config = line.server.home / "radiusd.conf"
    config.write_text(
        config.read_text().replace(
            "        files\n        Autz",
            '        if (&User-Name == "DEAF") {\n            update control {\n'
            "                Response-Packet-Type := Do-Not-Respond\n            }\n            handled\n        }\n"
            "        files\n        Autz",
            1,
        )
    )
    line.server.kill()
    line.server.start()
    line.locum.wait_for_state("online")
    (before,) = line.locum.query("SELECT count(*) AS steps FROM outage_events")
    assert line.copier.swipe("DEAF", wait=2.5, resend_every=0.5) is None
    (after,) = line.locum.query("SELECT count(*) AS steps FROM outage_events")
    assert after["steps"] == before["steps"]
    assert line.locum.state() == "online"
    assert arrivals(line.server) == {}
