"""What the simulated server does when a terminal asks: logins, jobs, records, queries. docs/terminal.md.

The state is changed at once and the answer is given back; who asked sees to it that the answer leaves when the change
is on stable storage. The pair of device and job number names a job for ever, for JOB and RECORD alike.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

from appliance.simulator.accounts import Account, CardTaken
from appliance.simulator.radius import CARDS_ONLY, NO_CREDIT, UNKNOWN_CARD
from appliance.simulator.rows import DecidedLogin
from appliance.simulator.state import NewJob, State, now_text
from protocols.terminal.messages import (
    ALL_PERMISSIONS,
    FORWARDER,
    NO_BALANCE,
    Hello,
    Job,
    JobAck,
    JobStatus,
    Kind,
    Login,
    LoginResult,
    LoginStatus,
    Logout,
    LogoutAck,
    Message,
    Method,
    Pong,
    Query,
    QueryResult,
    QueryStatus,
    RecordAck,
    RecordMessage,
    TerminalState,
    Unlock,
    UnlockResult,
    UnlockStatus,
    What,
    clip,
    contents,
)


class Desk:
    """Does what terminals ask. `counts` says how often it did what."""

    def __init__(self, state: State, counts: Counter[str]) -> None:
        self._state = state
        self._counts = counts

    def answer(self, message: Message, hello: Hello) -> Message:
        """Do what a device (or one that hands on) asks, in the state; gives the answer for when it is stored."""
        match message:
            case Login():
                return self._log_in(message, hello)
            case Job():
                return JobAck(message.job, self._job(message, hello))
            case Logout():
                return LogoutAck(message.session)
            case Query():
                return self._query(message)
            case RecordMessage():
                return self._record(message, hello)
            case Unlock():
                return UnlockResult(UnlockStatus.NOT_OFFLINE, 0)
            case _:
                return Pong(TerminalState.ONLINE)

    def _log_in(self, login: Login, hello: Hello) -> LoginResult:
        state = self._state
        by_card = login.method == Method.CARD
        account = state.accounts.of_card(login.credential) if by_card else None
        refused = CARDS_ONLY if not by_card else _why_not(account)
        words = refused or f"Welcome, {account.full_name if account else ''}"
        outcome = "refused" if refused else "granted"
        self._counts[f"logins {outcome}"] += 1
        name = account.username if account else ""
        state.changes.append(
            DecidedLogin(now_text(), name, login.credential, hello.device_id, outcome, words, "terminal")
        )
        if refused or account is None:
            return LoginResult(LoginStatus.REFUSED, 0, "", clip(words), NO_BALANCE, 0)
        session = state.grant_session(account, login.credential, hello.device_id)
        return LoginResult(
            LoginStatus.GRANTED, session, clip(name), clip(words), _hundredths(account.balance), ALL_PERMISSIONS
        )

    def _job(self, job: Job, hello: Hello) -> JobStatus:
        session = self._state.sessions.get(job.session)
        if self._known(job, hello.device_id) is not None:
            return JobStatus.ALREADY
        if session is None or session.device != hello.device_id or _kind(job) == "":
            return JobStatus.REFUSED
        account = self._state.accounts.named(session.user) or self._state.unknown_account()
        self._log(job, hello.device_id, account, session.card, "")
        return JobStatus.STORED

    def _record(self, record: RecordMessage, hello: Hello) -> RecordAck:
        state, job = self._state, record.job
        known = self._known(job, record.device_id)
        if known is not None:
            return RecordAck(record.record_id, job.job, JobStatus.ALREADY, clip(known))
        if not hello.capabilities & FORWARDER or _kind(job) == "":
            return RecordAck(record.record_id, job.job, JobStatus.REFUSED, "")
        account = state.accounts.of_card(record.card)
        if account is None:
            account = state.unknown_account()
            state.log("warning", f"Nobody has the card of job {job.job} of {record.device_id}: {account.username}.")
        self._log(job, record.device_id, account, record.card, str(UUID(bytes=record.record_id)))
        return RecordAck(record.record_id, job.job, JobStatus.STORED, clip(account.username))

    def _known(self, job: Job, device: str) -> str | None:
        """Whom this very job was logged against; None if it is not known."""
        return self._state.known_jobs.get((device, str(job.job)), {}).get(_digest(job))

    def _log(self, job: Job, device: str, account: Account, card: str, record_id: str) -> None:
        state, number = self._state, str(job.job)
        conflict = bool(state.known_jobs.get((device, number)))
        if conflict:
            state.log("warning", f"{device} sent another job under number {number}, which was known.")
        self._counts["jobs"] += 1
        state.log_job(
            account,
            NewJob(
                via="terminal",
                device=device,
                card=card,
                job_number=number,
                kind=_kind(job),
                pages=job.pages,
                color_pages=job.color_pages,
                copies=job.copies,
                document=job.document,
                time=_time(job.ended or job.started),
                comment=f"locum:{record_id}" if record_id else "",
                record_id=record_id,
                digest=_digest(job),
                conflict=conflict,
            ),
        )

    def _query(self, query: Query) -> QueryResult:
        state = self._state
        session = state.sessions.get(query.session)
        account = state.accounts.named(session.user) if session else None
        if account is None:
            return QueryResult(QueryStatus.REFUSED, ())
        if query.what == What.BALANCE:
            return QueryResult(QueryStatus.DONE, (f"{account.balance:.2f}",))
        if query.what in (What.SHARED_ACCOUNTS, What.HELD_JOBS):
            return QueryResult(QueryStatus.DONE, ())
        if query.what != What.ASSOCIATE_CARD or not query.argument:
            return QueryResult(QueryStatus.REFUSED, ())
        try:
            state.accounts.set_card(account, "secondary_card" if account.card else "card", query.argument)
        except CardTaken:
            return QueryResult(QueryStatus.REFUSED, ())
        state.changed(account)
        return QueryResult(QueryStatus.DONE, (clip(account.username),))


def _why_not(account: Account | None) -> str:
    if account is None:
        return UNKNOWN_CARD
    return "" if account.may_copy else NO_CREDIT


def later(answer: Message) -> Message:
    """The answer when nothing could be stored."""
    match answer:
        case JobAck():
            return JobAck(answer.job, JobStatus.LATER)
        case RecordAck():
            return RecordAck(answer.record_id, answer.job, JobStatus.LATER, "")
        case LoginResult():
            return LoginResult(LoginStatus.UNAVAILABLE, 0, "", "Please try again", NO_BALANCE, 0)
        case QueryResult():
            return QueryResult(QueryStatus.REFUSED, ())
        case _:
            return answer


def _kind(job: Job) -> str:
    return Kind(job.kind).name.lower() if job.kind in list(Kind) else ""


def _digest(job: Job) -> bytes:
    return hashlib.blake2b(contents(job), digest_size=16).digest()


def _hundredths(balance: Decimal) -> int:
    return int((balance * 100).to_integral_value())


def _time(milliseconds: int) -> str:
    """A time of the wire in ISO 8601, UTC; empty if it is unknown or beyond all calendars."""
    if not milliseconds:
        return ""
    try:
        told = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return ""
    return told.isoformat(timespec="milliseconds").replace("+00:00", "Z")
