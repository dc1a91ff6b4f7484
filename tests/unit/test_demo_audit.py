"""The demo's audit notices whatever does not fit: each way to lose, alter or repeat a job is one complaint."""

from dataclasses import replace

from appliance.demo.audit import audit
from appliance.demo.figures import Audit, Counted, Kept, Logins
from appliance.simulator.book import Record
from appliance.simulator.copier import CopiedJob
from appliance.simulator.users import shipped_users

ANNA, NOBODY = "04A1C3F2", "7E57C0DE"
LOGINS = Logins(1, 1, 1)
JOBS = [
    CopiedJob("copier-1", "000001", "s-1", ANNA, "copy", 3, 0, True),
    CopiedJob("copier-1", "000002", "s-1", ANNA, "print", 4, 1, True),
    CopiedJob("copier-2", "000001", "s-1", NOBODY, "scan", 5, 0, True),
]
COUNTED = Counted(["copier-1", "copier-2"], JOBS, 3, LOGINS, 3, LOGINS)
KEPT = Kept(
    [((job.device, job.number), (job.kind, job.pages, job.card)) for job in JOBS], LOGINS, frozenset(), 0, 2, True
)


def booked(job: CopiedJob, user: str) -> Record:
    record_id = f"{job.device} {job.number}"
    return Record("", "interim", user, job.card, job.device, job.session, job.number, job.kind, job.pages, record_id, 0)


BOOK = [booked(JOBS[0], "aberg"), booked(JOBS[1], "aberg"), booked(JOBS[2], "")]


def seen(*, counted: Counted = COUNTED, kept: Kept = KEPT, book: list[Record] = BOOK) -> Audit:
    return audit(counted, kept, book, shipped_users(), 1.23)


def test_where_all_three_agree_every_figure_adds_up() -> None:
    found = seen()
    assert found.complaints == []
    assert found.figures.as_object() == {
        "ok": True, "copiers": 2, "logins_online": 1, "logins_offline": 1, "logins_refused": 1, "unlocks": None,
        "jobs_sent": 3, "jobs_acknowledged": 3, "jobs_ledgered": 3, "jobs_delivered": 3, "duplicates": 0, "lost": 0,
        "unknown_cards": 1, "app_log_warnings": 2, "chain_verified": True, "seconds": 1.2,
    }  # fmt: skip
    assert [(line.device, line.sent, line.pages_delivered, line.fits) for line in found.lines] == [
        ("copier-1", 2, 7, True),
        ("copier-2", 1, 5, True),
    ]


def test_a_job_that_is_not_in_the_servers_book_is_lost() -> None:
    found = seen(book=[*BOOK[:1], BOOK[2]])
    assert (found.figures.ok, found.figures.lost, found.figures.jobs_delivered) == (False, 1, 2)
    assert "1 jobs acknowledged, but lost: not in the server's book: copier-1 job 000002" in found.complaints
    assert not found.lines[0].fits


def test_a_job_that_is_there_twice_must_be_named_in_the_ledger() -> None:
    twice = [*BOOK, BOOK[0]]
    found = seen(book=twice)
    assert (found.figures.ok, found.figures.duplicates) == (False, 1)
    assert "1 jobs twice in the server's book, and not named in the ledger: copier-1 job 000001" in found.complaints
    named = seen(book=twice, kept=replace(KEPT, maybe_twice=frozenset({"copier-1 000001"})))
    assert (named.figures.ok, named.figures.duplicates) == (True, 1)


def test_a_job_under_the_wrong_user_or_altered_on_its_way_is_noticed() -> None:
    assert seen(book=[replace(BOOK[0], user="bnowak"), *BOOK[1:]]).complaints == [
        "1 jobs in the server's book under the wrong user: copier-1 job 000001"
    ]
    assert seen(book=[replace(BOOK[0], pages=4), *BOOK[1:]]).complaints == [
        "1 jobs not in the server's book as they were done: copier-1 job 000001"
    ]


def test_a_session_out_of_order_is_noticed() -> None:
    assert seen(book=[BOOK[1], BOOK[0], BOOK[2]]).complaints == [
        "1 jobs out of their session's order in the server's book: copier-1 job 000001"
    ]


def test_a_job_that_was_not_acknowledged_is_noticed() -> None:
    jobs = [replace(JOBS[0], acknowledged=False), *JOBS[1:]]
    found = seen(counted=replace(COUNTED, jobs=jobs))
    assert "jobs acknowledged: 2 instead of 3" in found.complaints
    assert found.figures.jobs_acknowledged == 2


def test_what_the_ledger_lacks_or_has_twice_or_otherwise_is_noticed() -> None:
    assert seen(kept=replace(KEPT, jobs=KEPT.jobs[1:])).complaints == [
        "1 jobs acknowledged, but not in the ledger: copier-1 job 000001"
    ]
    assert seen(kept=replace(KEPT, jobs=[*KEPT.jobs, KEPT.jobs[0]])).complaints == [
        "1 jobs more than once in the ledger: copier-1 job 000001"
    ]
    other = [(KEPT.jobs[0][0], ("copy", 3, NOBODY)), *KEPT.jobs[1:]]
    assert seen(kept=replace(KEPT, jobs=other)).complaints == [
        "1 jobs not in the ledger as they were done: copier-1 job 000001"
    ]


def test_logins_a_full_outbox_and_a_broken_chain_are_noticed() -> None:
    assert seen(counted=replace(COUNTED, logins_wanted=Logins(2, 1, 1))).complaints == [
        "logins granted by the server, seen by the copiers: 1 instead of 2"
    ]
    assert seen(kept=replace(KEPT, logins=Logins(1, 0, 1))).complaints == [
        "logins granted by Locum, in the ledger: 0 instead of 1"
    ]
    assert seen(kept=replace(KEPT, not_forwarded=1)).complaints == ["records that wait in Locum: 1 instead of 0"]
    broken = seen(kept=replace(KEPT, chain=False))
    assert broken.complaints == ["the ledger's chain of hashes does not hold"]
    assert (broken.figures.ok, broken.figures.chain_verified) == (False, False)


def test_a_grant_that_was_kept_again_after_the_kill_is_no_fault() -> None:
    assert seen(kept=replace(KEPT, logins=Logins(1, 2, 1))).complaints == []


def test_a_record_that_is_no_job_must_arrive_too() -> None:
    assert seen(counted=replace(COUNTED, records=4)).complaints == [
        "records of any kind in the server's book: 3 instead of 4"
    ]
