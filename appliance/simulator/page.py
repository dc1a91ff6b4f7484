"""The simulated server's one page: users, jobs, balances, App.Log, settings, terminals, as plain HTML without scripts.

Every value is escaped. Jobs, transactions and App.Log come from the book, so the page shows what is on stable storage.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from appliance.simulator.book import rows_in
from appliance.simulator.rows import AppLogLine, LoggedJob, Transaction
from appliance.simulator.state import State

LAST = 200

_JOB_HEAD = (
    *("received", "via", "user", "card", "printer", "job", "kind", "pages", "colour", "document"),
    *("time", "cost", "comment"),
)
_STYLE = (
    "body{font:14px/1.4 sans-serif;margin:1.5rem}table{border-collapse:collapse;margin:0 0 1.5rem}"
    "caption{font-weight:bold;text-align:left;padding:.3rem 0}"
    "th,td{border:1px solid #bbb;padding:.15rem .5rem;text-align:left;vertical-align:top}th{background:#eee}"
)


def write_page(state: State, directory: Path, terminals: Iterable[Sequence[object]]) -> bytes:
    """The page. `terminals`: device, address, model, connected since. Raises BookError."""
    jobs = rows_in(directory, LoggedJob, last=LAST)
    transactions = rows_in(directory, Transaction, last=LAST)
    lines = rows_in(directory, AppLogLine, last=LAST)
    parts = [
        _table(
            "Users",
            ("username", "full name", "card", "second card", "balance", "restricted", "jobs", "pages"),
            (
                (
                    *(account.username, account.full_name, account.card, account.secondary_card),
                    *(f"{account.balance:f}", "yes" if account.restricted else "no"),
                    *(account.job_count, account.page_count),
                )
                for account in state.accounts
            ),
        ),
        _table("Terminals connected", ("device", "address", "model", "since"), terminals),
        _table(
            f"Jobs, the last {LAST}",
            _JOB_HEAD,
            (
                (
                    *(job.received_at, job.via, job.user, job.card, f"{job.server}\\{job.device}"),
                    *(job.job_number or "", job.kind, job.pages, job.color_pages, job.document),
                    *(job.time, job.cost, job.comment),
                )
                for job in jobs
            ),
        ),
        _table(
            f"Transactions, the last {LAST}",
            ("at", "user", "amount", "balance", "kind", "comment"),
            ((each.at, each.user, each.amount, each.balance, each.kind, each.comment) for each in transactions),
        ),
        _table(
            f"App.Log, the last {LAST}",
            ("at", "level", "message"),
            ((line.at, line.level, line.message) for line in lines),
        ),
        _table("Configuration values", ("name", "value"), sorted(state.config.items())),
    ]
    page = (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Application Server (lab)</title>'
        f"<style>{_STYLE}</style></head><body><h1>Application Server (lab)</h1>{''.join(parts)}</body></html>\n"
    )
    return page.encode("utf-8", "replace")


def _table(caption: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    return f"<table><caption>{escape(caption)}</caption><tr>{titles}</tr>{body}</table>"
