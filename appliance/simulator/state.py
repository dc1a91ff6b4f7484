"""What the simulated server knows and does in every dialect: cards, jobs, what they cost, settings, App.Log.

All of it is in memory and follows the book: an operation changes the memory at once and leaves the rows for the book in
`changes`. Nobody is answered before these are on stable storage, and if they cannot be written, all of the memory is
read from the book anew (`server.py`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from appliance.simulator.accounts import Account, Accounts
from appliance.simulator.book import Book
from appliance.simulator.rows import (
    AppLogLine,
    ConfigValue,
    GrantedSession,
    LoggedJob,
    Printer,
    RemovedUser,
    Row,
    Transaction,
    UserRow,
)
from appliance.simulator.users import User

COST_OF_A_PAGE = Decimal("0.10")
UNKNOWN_NAME = "ext-device.unknown-offline-username"
DEVICE_SERVER = "device"


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be logged; `cost` None: so much a page. The other fields are those of `LoggedJob`."""

    via: str
    device: str
    pages: int
    card: str = ""
    server: str = DEVICE_SERVER
    job_number: str | None = None
    kind: str = ""
    color_pages: int = 0
    copies: int = 1
    document: str = ""
    time: str = ""
    cost: Decimal | None = None
    comment: str = ""
    record_id: str = ""
    digest: bytes | None = None
    conflict: bool = False


class State:
    """The memory of one server."""

    def __init__(self, book: Book, users: Iterable[User], printers: Iterable[Printer] = ()) -> None:
        """Takes the users' file over. Raises CardTaken."""
        self.changes: list[Row] = []
        self.taken_over = False
        self._book = book
        self._users = list(users)
        self._printers = list(printers)
        self.printers_named = bool(self._printers)
        self.reload()

    def reload(self) -> None:
        """Know what the book knows, and nothing else; what stands in the files comes on top until the book has it."""
        self.changes.clear()
        book = self._book
        self.accounts = Accounts(Account.from_row(row) for row in book.rows(UserRow))
        self.config = {row.name: row.value for row in book.rows(ConfigValue)}
        self.printers = set(book.rows(Printer))
        self.sessions = {row.session: row for row in book.rows(GrantedSession)}
        self.known_jobs: dict[tuple[str, str], dict[bytes, str]] = {}
        for job in book.rows(LoggedJob):
            if job.digest is not None and job.job_number is not None:
                self.known_jobs.setdefault((job.device, job.job_number), {})[job.digest] = job.user
        if not self.taken_over:
            for user in self._users:
                account = self.accounts.take_over(user)
                if account is not None:
                    self.changed(account)
            for printer in self._printers:
                self.add_printer(printer)

    def take_changes(self) -> list[Row]:
        """What the book does not have yet."""
        changes, self.changes = self.changes, []
        return changes

    # --- jobs and money -------------------------------------------------------------------------------------------

    def log_job(self, account: Account | None, job: NewJob) -> None:
        """Log a job and charge it; nobody is charged where nobody has the card."""
        now = now_text()
        cost = job.pages * COST_OF_A_PAGE if job.cost is None else job.cost
        self.changes.append(
            LoggedJob(
                received_at=now,
                via=job.via,
                user=account.username if account else "",
                card=job.card,
                server=job.server,
                device=job.device,
                job_number=job.job_number,
                kind=job.kind,
                pages=job.pages,
                color_pages=job.color_pages,
                copies=job.copies,
                document=job.document,
                time=job.time,
                cost=f"{cost:f}",
                comment=job.comment,
                record_id=job.record_id,
                digest=job.digest,
                conflict=int(job.conflict),
            )
        )
        if job.digest is not None and job.job_number is not None:
            known = self.known_jobs.setdefault((job.device, job.job_number), {})
            known[job.digest] = account.username if account else ""
        if account is not None:
            account.job_count += 1
            account.page_count += job.pages
            self._charge(account, -cost, "job", f"{job.device} {job.document}".strip(), now)

    def adjust(self, account: Account, amount: Decimal, comment: str) -> None:
        """Change a balance by an amount."""
        self._charge(account, amount, "adjustment", comment, now_text())

    def _charge(self, account: Account, amount: Decimal, kind: str, comment: str, now: str) -> None:
        account.balance += amount
        self.changes.append(Transaction(now, account.username, f"{amount:f}", f"{account.balance:f}", kind, comment))
        self.changes.append(account.row())

    # --- users and cards ------------------------------------------------------------------------------------------

    def create_user(self, account: Account) -> None:
        """Add somebody who is not there yet. Raises CardTaken."""
        self.accounts.add(account)
        self.changed(account)
        self.log("info", f"User {account.username} was created.")

    def changed(self, account: Account) -> None:
        """Somebody's account was changed."""
        self.changes.append(account.row())

    def delete_user(self, account: Account) -> None:
        """Delete somebody; the jobs stay."""
        self.accounts.remove(account)
        self.changes.append(RemovedUser(now_text(), account.key))

    def rename_user(self, account: Account, username: str) -> None:
        """Give somebody another name, which must be free."""
        before = account.key
        self.accounts.rename(account, username)
        if account.key != before:
            self.changes.append(RemovedUser(now_text(), before))
        self.changed(account)

    def unknown_account(self) -> Account:
        """The account for whoever is unknown, created when it is needed first."""
        name = self.config.get(UNKNOWN_NAME) or "unknown"
        account = self.accounts.named(name)
        if account is None:
            account = Account(name, "Unknown offline user", internal=True)
            self.create_user(account)
        return account

    # --- the rest -------------------------------------------------------------------------------------------------

    def grant_session(self, account: Account, card: str, device: str) -> int:
        """A session number that was never given before, bit 63 clear."""
        # Microseconds since 1970: new also in a new book, so that no terminal meets a number again.
        number = max(time.time_ns() // 1000, max(self._newest_session, 0) + 1)
        self.sessions[number] = granted = GrantedSession(number, account.username, card, device, now_text())
        self.changes.append(granted)
        return number

    @property
    def _newest_session(self) -> int:
        return next(reversed(self.sessions), 0)

    def set_config(self, name: str, value: str) -> None:
        """Set a configuration value."""
        self.config[name] = value
        self.changes.append(ConfigValue(name, value))

    def add_printer(self, printer: Printer) -> None:
        """Know a printer."""
        if printer not in self.printers:
            self.printers.add(printer)
            self.changes.append(printer)

    def log(self, level: str, message: str) -> None:
        """A line in App.Log; `level` is info, warning or error."""
        self.changes.append(AppLogLine(now_text(), level, message))


def now_text() -> str:
    """The time, ISO 8601, UTC, with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
