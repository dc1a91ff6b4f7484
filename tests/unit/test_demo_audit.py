"""The demo's audit notices whatever does not fit: each way to lose, alter, repeat or misplace a job is a complaint."""

from dataclasses import replace
from decimal import Decimal

from appliance.demo.audit import audit
from appliance.demo.figures import Audit, Booked, Codes, Counted, Kept, KeptJob, Logins
from appliance.simulator.copier import CopiedJob
from appliance.simulator.rows import LoggedJob
from appliance.simulator.users import shipped_users

ANNA, NOBODY = "04A1C3F2", "7E57C0DE"
LOGINS, CODES = Logins(1, 1, 1, 1), Codes(1, 1)
JOBS = [
    CopiedJob("office-1", "1", "s-1", ANNA, "copy", 3, 0, True),
    CopiedJob("office-1", "2", "s-1", ANNA, "print", 4, 1, True),
    CopiedJob("library-1", "1", "s-1", NOBODY, "scan", 5, 0, True),
]
PRINTERS = {"office-1": "office-1", "library-1": "Library, room 1"}
COUNTED = Counted(PRINTERS, JOBS, LOGINS, CODES, 3, LOGINS)
IDS = [f"{job.device} {job.number}" for job in JOBS]
KEPT = Kept(
    jobs=[
        KeptJob(id, (job.device, job.number), (job.kind, job.pages, job.color_pages, job.card))
        for id, job in zip(IDS, JOBS, strict=True)
    ],
    logins=LOGINS,
    codes=CODES,
    in_doubt=frozenset(),
    undecided=frozenset(),
    unknown_jobs=frozenset(IDS[2:]),
    unknown_cards=frozenset([NOBODY]),
    unknown_told=frozenset(IDS[2:]),
    not_forwarded=0,
    warnings=2,
    chain=True,
)


def logged(id: str, job: CopiedJob, user: str) -> LoggedJob:
    cost = f"{job.pages * Decimal('0.10'):f}"
    place = ("device", PRINTERS[job.device], None, job.kind, job.pages, job.color_pages, 1)
    return LoggedJob("", "xmlrpc", user, "", *place, "", "", cost, f"locum:{id}", id, None, 0)


LOGGED = [logged(id, job, user) for id, job, user in zip(IDS, JOBS, ("aberg", "aberg", "unknown"), strict=True)]
BALANCES = {
    **{user.username: user.balance for user in shipped_users()},
    "aberg": Decimal("11.70"),
    "unknown": Decimal("-0.50"),
}


def seen(
    *,
    counted: Counted = COUNTED,
    kept: Kept = KEPT,
    book: list[LoggedJob] = LOGGED,
    balances: dict[str, Decimal] = BALANCES,
) -> Audit:
    return audit(counted, kept, Booked(book, balances), shipped_users(), 1.23)


def test_where_all_three_agree_every_figure_adds_up() -> None:
    found = seen()
    assert found.complaints == []
    assert found.figures.as_object() == {
        "ok": True, "copiers": 2, "logins_online": 1, "logins_offline": 1, "logins_refused": 1, "unlocks": 1,
        "jobs_sent": 3, "jobs_acknowledged": 3, "jobs_ledgered": 3, "jobs_delivered": 3, "duplicates": 0, "lost": 0,
        "unknown_cards": 1, "app_log_warnings": 2, "chain_verified": True, "seconds": 1.2,
    }  # fmt: skip
    assert [(line.device, line.sent, line.pages_delivered, line.fits) for line in found.lines] == [
        ("office-1", 2, 7, True),
        ("library-1", 1, 5, True),
    ]
    assert (found.charged, found.charged_unknown, found.people) == (Decimal("1.20"), Decimal("0.50"), 2)


def test_a_job_that_is_not_in_the_servers_book_is_lost() -> None:
    found = seen(book=[LOGGED[0], LOGGED[2]])
    assert (found.figures.ok, found.figures.lost, found.figures.jobs_delivered) == (False, 1, 2)
    assert "1 jobs acknowledged, but lost: not in the server's book: office-1 job 2" in found.complaints
    assert not found.lines[0].fits


def test_a_job_that_is_there_twice_is_noticed_whether_it_was_in_doubt_or_not() -> None:
    twice = [*LOGGED, LOGGED[0]]
    for kept in (KEPT, replace(KEPT, in_doubt=frozenset(IDS[:1]))):
        found = seen(book=twice, kept=kept)
        assert (found.figures.ok, found.figures.duplicates) == (False, 1)
        assert "1 jobs more than once in the server's book: office-1 job 1" in found.complaints


def test_a_job_under_the_wrong_user_or_altered_on_its_way_is_noticed() -> None:
    assert seen(book=[replace(LOGGED[0], user="bnowak"), *LOGGED[1:]]).complaints == [
        "1 jobs in the server's book under the wrong user: office-1 job 1"
    ]
    changes: list[dict[str, object]] = [{"pages": 4}, {"device": "office-2"}, {"color_pages": 1}, {"kind": "fax"}]
    for change in changes:
        assert seen(book=[replace(LOGGED[0], **change), *LOGGED[1:]]).complaints == [  # type: ignore[arg-type]
            "1 jobs not in the server's book as they were done: office-1 job 1"
        ]


def test_a_job_that_nobody_knows_at_the_server_is_noticed() -> None:
    assert seen(book=[*LOGGED, replace(LOGGED[0], record_id="another")]).complaints == [
        "jobs in the server's book that are not in the ledger: 1 instead of 0"
    ]


def test_a_session_out_of_order_is_noticed_unless_a_job_was_in_doubt_and_sent_later() -> None:
    turned = [LOGGED[1], LOGGED[0], LOGGED[2]]
    assert seen(book=turned).complaints == ["1 jobs out of their session's order in the server's book: office-1 job 1"]
    assert seen(book=turned, kept=replace(KEPT, in_doubt=frozenset(IDS[:1]))).complaints == []


def test_a_job_that_was_not_acknowledged_is_noticed() -> None:
    jobs = [replace(JOBS[0], acknowledged=False), *JOBS[1:]]
    found = seen(counted=replace(COUNTED, jobs=jobs))
    assert "jobs acknowledged: 2 instead of 3" in found.complaints
    assert found.figures.jobs_acknowledged == 2


def test_what_the_ledger_lacks_or_has_twice_or_otherwise_is_noticed() -> None:
    # The same job under two ids: which of them is in the book is no matter.
    assert seen(kept=replace(KEPT, jobs=[*KEPT.jobs, replace(KEPT.jobs[0], id="another")])).complaints == [
        "1 jobs more than once in the ledger: office-1 job 1"
    ]
    assert "1 jobs acknowledged, but not in the ledger: office-1 job 1" in (
        seen(kept=replace(KEPT, jobs=KEPT.jobs[1:])).complaints
    )
    other = [replace(KEPT.jobs[0], content=("copy", 3, 0, NOBODY)), *KEPT.jobs[1:]]
    assert seen(kept=replace(KEPT, jobs=other)).complaints == [
        "1 jobs not in the ledger as they were done: office-1 job 1"
    ]


def test_logins_codes_a_full_outbox_and_a_broken_chain_are_noticed() -> None:
    assert seen(counted=replace(COUNTED, logins_wanted=Logins(2, 1, 1, 1))).complaints == [
        "logins granted by the server, seen by the copiers: 1 instead of 2"
    ]
    assert seen(kept=replace(KEPT, logins=Logins(1, 0, 1, 0))).complaints == [
        "logins that found the copier locked, in the ledger: 0 instead of 1",
        "logins granted by Locum, in the ledger: 0 instead of 1",
    ]
    assert seen(kept=replace(KEPT, codes=Codes(2, 0))).complaints == [
        "right codes in the ledger: 2 instead of 1",
        "wrong codes in the ledger: 0 instead of 1",
    ]
    assert seen(kept=replace(KEPT, not_forwarded=1)).complaints == [
        "records that wait in Locum, or were refused: 1 instead of 0"
    ]
    undecided = replace(KEPT, not_forwarded=1, in_doubt=frozenset(IDS[:1]), undecided=frozenset(IDS[:1]))
    assert seen(kept=undecided).complaints == ["records in doubt that nobody has decided: 1 instead of 0"]
    broken = seen(kept=replace(KEPT, chain=False))
    assert broken.complaints == ["the ledger's chain of hashes does not hold"]
    assert (broken.figures.ok, broken.figures.chain_verified) == (False, False)


def test_a_grant_that_was_kept_again_after_the_kill_is_no_fault() -> None:
    assert seen(kept=replace(KEPT, logins=Logins(1, 2, 1, 1))).complaints == []


def test_an_unknown_card_must_be_marked_in_the_ledger_and_warned_of() -> None:
    assert seen(kept=replace(KEPT, unknown_jobs=frozenset(), unknown_cards=frozenset())).complaints == [
        "1 jobs of cards that nobody has, and not marked so in the ledger: library-1 job 1"
    ]
    assert seen(kept=replace(KEPT, unknown_told=frozenset())).complaints == [
        "1 jobs of cards that nobody has, without a warning in App.Log: library-1 job 1"
    ]
    marked = replace(KEPT, unknown_jobs=frozenset(IDS[1:]), unknown_told=frozenset(IDS[1:]))
    assert seen(kept=marked).complaints == [
        "1 jobs marked in the ledger as of a card that nobody has, wrongly: office-1 job 2"
    ]


def test_every_balance_is_what_was_there_less_what_the_jobs_cost() -> None:
    assert seen(balances={**BALANCES, "aberg": Decimal("11.60")}).complaints == [
        "the server's balance of aberg: 11.60 instead of 11.70"
    ]
    assert seen(balances={**BALANCES, "somebody": Decimal(0)}).complaints == [
        "the server has a user somebody whom nobody needed"
    ]
    without = {name: balance for name, balance in BALANCES.items() if name != "unknown"}
    assert seen(balances=without).complaints == ["the server's balance of unknown: no such user instead of -0.50"]
