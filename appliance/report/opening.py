"""The opening of the report: the whole of it in a few sentences, for whoever reads no further."""

from __future__ import annotations

from appliance.report import wording
from appliance.report.wording import count, span
from storage.summary.whole import Summary
from storage.verify import Report

WHAT_LOCUM_IS = (
    "Locum stands between the copiers and the print-management server: while the server cannot be reached, it lets "
    "people in on the server's behalf and keeps what they copy, print and scan until the server can take it."
)


def period(summary: Summary) -> str:
    """From which day to which."""
    days = summary.scope.days()
    if len(days) == 1:
        return wording.day(days[0])
    return f"{wording.day(days[0])} to {wording.day(days[-1])}"


def sentences(summary: Summary, report: Report) -> list[str]:
    """The summary."""
    return [WHAT_LOCUM_IS, _what(summary), _away(summary), _made(summary), _delivered(summary), _sound(report)]


def _what(summary: Summary) -> str:
    scope = summary.scope
    whole = scope.local(scope.first).time() == scope.local(scope.last + 1).time()
    span_ = f"{count(len(scope.days()), 'day')}, {period(summary)}"
    if not whole:
        span_ = f"the time from {wording.moment(scope, scope.first)} to {wording.moment(scope, scope.last)}"
    about = "all copiers" if not scope.devices else f"{wording.and_so_on(scope.devices)} and no other copier"
    said = f"This report is about {span_}, and about {about}. All times are of {scope.zone}."
    if summary.about_copy.get("plain", "whole") != "whole":
        said += " IT WAS MADE FROM A PART OF THE LEDGER: what that part does not have is not counted."
    return said


def _away(summary: Summary) -> str:
    found = summary.outages
    if not found and summary.about_copy.get("plain", "whole") != "whole":
        return "This part of the ledger has no outage in this period."
    if not found:
        return "The ledger has no outage in this period: no server was away."
    offline = [each for each in found if each.offline is not None]
    servers = len({each.upstream for each in found})
    of = "A server" if servers > 1 else "The server"
    times = "once" if len(found) == 1 else f"{len(found):,} times"
    said = f"{of} was away {times}, for {span(sum(each.lasted for each in found))} in all."
    let_in = sum(each.let_in for each in found)
    jobs, pages = sum(each.jobs for each in found), sum(each.pages for each in found)
    if offline:
        which = (
            "it" if len(found) == 1 else "all of them" if len(offline) == len(found) else f"{len(offline):,} of them"
        )
        said += f" In {which} Locum went into offline mode."
    said += (
        f" Meanwhile it let people in {'once' if let_in == 1 else f'{let_in:,} times'} and took {count(jobs, 'job')} "
        f"with {count(pages, 'page')}; the server has taken {sum(each.taken_since for each in found):,} of these jobs "
        "since."
    )
    if servers > 1:
        said += " Where servers were away at once, each is counted."
    if any(each.recovered is None for each in found):
        said += " The last outage is not over."
    return said


def _made(summary: Summary) -> str:
    made, logins = summary.pages, summary.logins
    said = (
        f"In the whole period people logged in {logins.by_server + logins.by_locum:,} times, {logins.by_locum:,} of "
        f"them let in by Locum, and made {count(made.pages, 'page')} in {count(made.jobs, 'job')}, "
        f"{made.color_pages:,} of these pages in colour."
    )
    if logins.refused or logins.undecided:
        said += f" {count(logins.refused + logins.undecided, 'login')} did not succeed."
    return said


def _delivered(summary: Summary) -> str:
    fates = summary.fates
    said = f"The server has taken {fates.delivered:,} of the {count(fates.records, 'record')} of this period."
    waiting, doubt, refused = (
        sum(each.records for each in summary.open if each.state == state)
        for state in ("waiting", "in_doubt", "rejected")
    )
    if not waiting + doubt + refused:
        return f"{said} Nothing is open."
    parts = [
        f"{count(waiting, 'record waits', 'records wait')} for it" if waiting else "",
        f"of {count(doubt, 'record')} nobody knows yet whether it has them" if doubt else "",
        f"{count(refused, 'record was', 'records were')} refused by it" if refused else "",
    ]
    return f"{said} Still open, of all times: {wording.and_so_on([part for part in parts if part])}."


def _sound(report: Report) -> str:
    if report.wrong is not None:
        return f"The ledger was found altered or damaged ({wording.clean(report.wrong)}): do not rely on these figures."
    if not report.signed_through:
        return "The ledger was checked and its chain holds; nothing in it is signed."
    return f"The ledger was checked: its chain holds, and it is signed through entry {report.signed_through:,}."
