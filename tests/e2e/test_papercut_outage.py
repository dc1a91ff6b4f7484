"""Copiers in front of Locum in front of a PaperCut server, through outages.

`dialects/papercut.md`, `offline-mode.md`. One line for all tests here; each uses devices of its own and leaves the line
online with nothing waiting.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.peers import wire
from tests.peers.copier import Copier
from tests.peers.office import ADA, BO, BO_SECOND, CY, DEE, STRANGER, USERS, ZONE, Office, open_office, write_users
from tests.peers.terminal import ALREADY, GRANTED, METHOD, NO_BALANCE, OFFLINE, ONLINE, REFUSED, STORED, Lost
from tests.peers.waiting import eventually


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with ExitStack() as endings:
        yield open_office(tmp_path_factory.mktemp("office"), endings, radius=True)


@pytest.fixture
def offline(office: Office) -> Iterator[Office]:
    """The line while the server is away; it is back with nothing waiting after the test."""
    office.go_offline()
    yield office
    if office.shop.state() != "online":
        office.server.stop()
        office.come_back()


def test_online_a_card_becomes_its_user_and_the_job_is_booked(office: Office) -> None:
    """User and balance as the server has them; the job under that user, at the device, in the server's own time."""
    terminal = office.terminal("KM-online")
    assert terminal.ping() == ONLINE
    reply = terminal.swipe(ADA)
    assert (reply.status, reply.user, reply.balance) == (GRANTED, "ada", 1240)
    assert reply.session >> 63 == 1, "the public API has no sessions: this one is Locum's"
    assert terminal.job(reply.session, pages=7, copies=1, document='a, "b".pdf') == STORED
    assert terminal.job(reply.session, 1, pages=7, copies=1, document='a, "b".pdf') == ALREADY
    terminal.logout(reply.session)
    eventually(lambda: office.booked("KM-online"), 5, "the job is booked")
    (booked,) = office.booked("KM-online")
    assert (booked.user, booked.pages, booked.via, booked.document) == ("ada", 7, "xmlrpc", 'a, "b".pdf')
    zone = ZoneInfo(ZONE)
    done = datetime.strptime(booked.time, "%Y%m%dT%H%M%S").replace(tzinfo=zone)
    assert abs(datetime.now(zone) - done) < timedelta(seconds=20)
    (row,) = office.shop.query("SELECT id FROM jobs WHERE device = 'KM-online'")
    assert booked.comment == f"locum:{row['id']}"
    assert terminal.swipe("0BADCAFE").status == REFUSED
    assert terminal.swipe(DEE).status == REFUSED, "restricted, and no credit is left"
    assert terminal.swipe("ada", method=2, secret="x").status == METHOD


def _radius_online(copier: Copier) -> None:
    """A card is let in and its job taken; a card that nobody has is refused."""
    answer = copier.swipe(CY)
    assert answer is not None
    assert answer.kind == "accept"
    assert copier.job("online", "1", card=CY, pages=51)
    refused = copier.swipe("0BADCAFE")
    assert refused is not None
    assert refused.kind == "reject"


def _radius_offline(copier: Copier) -> None:
    """A card is let in by Locum; Start, a job, Stop."""
    answer = copier.swipe(BO_SECOND)
    assert answer is not None
    assert answer.kind == "accept"
    mark = wire.attribute(wire.CLASS, answer.packet.all(wire.CLASS)[0])
    for status, pages in ((wire.START, None), (wire.INTERIM, 52), (wire.STOP, None)):
        job = "2" if pages else ""
        assert copier.account(status, "offline", user=BO_SECOND, job=job, pages=pages, extra=mark)


def test_people_work_through_an_outage_and_each_job_is_under_its_user(office: Office) -> None:
    """kill -9 of the server; any card is let in; drained under the right users, each once and in order.

    A RADIUS copier stands beside the terminals, in front of the same PaperCut server.
    """
    cards = (ADA, BO, BO_SECOND, CY)
    names = {card: f"KM-floor-{number}" for number, card in enumerate(cards)}
    terminals = {card: office.terminal(name) for card, name in names.items()}
    began = terminals[ADA].log_in(ADA)
    assert terminals[ADA].job(began, pages=1) == STORED
    with closing(Copier(office.shop.auth_port, office.shop.acct_port, office.shop.secret, "R-1")) as copier:
        _radius_online(copier)
        office.go_offline()
        _radius_offline(copier)
    assert terminals[ADA].ping() == OFFLINE
    assert terminals[ADA].job(began, pages=2) == STORED, "a session that began online goes on"
    for card, terminal in terminals.items():
        session = terminal.log_in(card)
        for pages in range(3, 13):
            assert terminal.job(session, pages=pages) == STORED
        terminal.logout(session)
    late = terminals[CY].swipe(CY)
    assert (late.user, late.balance) == ("", NO_BALANCE)
    assert terminals[CY].query(1, late.session) == (2, []), "no balance offline"
    assert len(office.booked(*names.values())) == 1
    office.come_back()
    assert terminals[CY].job(late.session, pages=13) == STORED, "an offline session keeps its number till LOGOUT"
    terminals[CY].logout(late.session)
    eventually(lambda: office.booked(names[CY])[-1].pages == 13, 5, "the last job is booked")
    for card, user, first, last in (
        (ADA, "ada", 1, 12),
        (BO, "bo", 3, 12),
        (BO_SECOND, "bo", 3, 12),
        (CY, "cy", 3, 13),
    ):
        found = office.booked(names[card])
        assert [(each.user, each.pages) for each in found] == [(user, pages) for pages in range(first, last + 1)]
    assert [(each.user, each.pages) for each in office.booked("R-1")] == [("cy", 51), ("bo", 52)]
    assert int(office.shop.outbox()["rejected"]) == 0, (
        "what is no job is not forwarded to a server that takes jobs only"
    )
    assert office.server.query("SELECT * FROM jobs_twice") == []
    assert office.shop.query("SELECT * FROM in_doubt") == []


def test_jobs_of_a_card_that_nobody_has_go_to_the_unknown_user(offline: Office) -> None:
    """`unknown` is created at the server; a warning in App.Log; the card itself stands in `personal` alone."""
    terminal = offline.terminal("KM-stranger")
    session = terminal.log_in(STRANGER)
    assert terminal.job(session, pages=5) == STORED
    terminal.logout(session)
    offline.come_back()
    (booked,) = offline.booked("KM-stranger")
    assert booked.user == "unknown"
    assert offline.server.api().isUserExists("lab-token", "unknown")
    assert offline.wait_for_line("was created")[0] == "warning"
    offline.wait_for_line("nobody has the card")
    rows = offline.shop.query(
        "SELECT a.level, a.text, a.context, p.card FROM app_log a LEFT JOIN personal p ON p.seq = a.seq"
        " WHERE a.text LIKE '%nobody has the card%'"
    )
    (told,) = [row for row in rows if json.loads(row["context"]).get("device") == "KM-stranger"]
    assert told["level"] == "warning"
    assert told["card"] == STRANGER
    context = json.loads(told["context"])
    assert context["pages"] == 5
    assert context["time"]
    for text in (offline.shop.log_text(), *(body["body"] for body in offline.shop.query("SELECT body FROM entries"))):
        assert STRANGER.lower() not in text.lower()
    delivery = offline.shop.query(
        "SELECT d.unknown_card, p.user FROM deliveries d JOIN jobs j ON j.seq = d.record"
        " JOIN personal p ON p.seq = d.seq WHERE j.device = 'KM-stranger' AND d.outcome = 'delivered'"
    )
    assert [tuple(row) for row in delivery] == [(1, "unknown")]
    (unknown,) = offline.shop.query("SELECT card, pages FROM unknown_cards WHERE device = 'KM-stranger'")
    assert tuple(unknown) == (STRANGER, 5)


def test_a_second_outage_while_the_first_still_drains(offline: Office) -> None:
    """The server is slow and dies again in the middle: each job is booked once, or in doubt by name and still once."""
    terminal = offline.terminal("KM-second")
    session = terminal.log_in(ADA)
    for number in range(40):
        assert terminal.job(session, pages=number + 1) == STORED
    offline.server.switch(answer_late=0.15)
    offline.server.start()
    eventually(lambda: len(offline.booked("KM-second")) >= 3, 15, "some are booked")
    offline.server.kill()
    offline.shop.wait_for_state("grace", "offline")
    try:
        assert terminal.job(session, pages=41) == STORED
    except Lost:
        raise AssertionError("the job was not acknowledged while the server was away again") from None
    terminal.logout(session)
    offline.shop.wait_for_state("offline")
    offline.server.switch()
    offline.come_back()
    doubtful = {row["id"] for row in offline.shop.query("SELECT id FROM in_doubt")}
    assert len(doubtful) <= 1, "one user's jobs go one after the other"
    times = Counter(each.record_id for each in offline.booked("KM-second"))
    assert max(times.values()) == 1
    jobs = {row["id"] for row in offline.shop.query("SELECT id FROM jobs WHERE device = 'KM-second'")}
    assert len(jobs) == 41
    assert jobs - set(times) <= doubtful
    for identifier in doubtful:
        how = "--sent" if times[identifier] else "--resend"
        offline.locum("outbox", "resolve", identifier, how, "--reason", "looked into its book")
    offline.shop.wait_until_drained()
    eventually(lambda: {each.record_id for each in offline.booked("KM-second")} == jobs, 10, "each is booked")
    booked = [each.pages for each in offline.booked("KM-second")]
    assert sorted(booked) == list(range(1, 42))


def test_a_card_that_changes_its_owner_is_resolved_by_who_owns_it_when_it_is_forwarded(office: Office) -> None:
    """Looked up and charged online as Cy's; given to Ada while the server is away: then the jobs are Ada's.

    The last outage on this line: the cards are not given back.
    """
    terminal = office.terminal("KM-changed")
    session = terminal.log_in(CY)
    assert terminal.job(session, pages=1) == STORED
    terminal.logout(session)
    office.go_offline()
    session = terminal.log_in(CY)
    assert terminal.job(session, pages=2) == STORED
    terminal.logout(session)
    gives, takes = ("Cy Diaz", "04FFFFFF", "", "25.00", "no"), (*USERS["ada"][:2], CY, "12.40", "no")
    changed = {"cy": gives, **{name: rest for name, rest in USERS.items() if name != "cy"}, "ada": takes}
    write_users(office.users, changed)
    office.come_back()
    assert [(each.user, each.pages) for each in office.booked("KM-changed")] == [("cy", 1), ("ada", 2)]


def test_nothing_personal_is_in_the_log(office: Office) -> None:
    """No card, user or document of what was done above in the log file or in App.Log."""
    texts = [office.shop.log_text(), *(text for _, text in office.app_log())]
    assert "offline mode" in texts[0]
    for hidden in (ADA, BO, BO_SECOND, CY, STRANGER, "lab-token", "b.pdf"):
        assert not [text for text in texts if hidden.lower() in text.lower()], hidden
    assert Path(office.shop.log).exists()
