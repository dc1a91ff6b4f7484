"""The chapters on what people did, on what the figures rest, and on what no report can say."""

from __future__ import annotations

from appliance.report import charts, wording
from appliance.report.chapters import Chapter, Table
from appliance.report.charts import BLUE, Series
from appliance.report.wording import clean, count, moment, number, words_of
from storage.checkpoints import Checkpoint
from storage.summary.whole import Summary
from storage.verify import Report

_EVERY_DEVICE = "*"


def unlocks(summary: Summary) -> Chapter:
    """Unlocks and drills."""
    found, drills, scope = summary.unlocks, summary.drills, summary.scope
    title = "Unlocks and drills"
    if not found.counts and not drills:
        return Chapter(
            "unlocks", title, ("The ledger has no unlock, no code that was tried and no drill in this period.",)
        )
    many = sum(found.counts.values())
    opened = sum(found.counts.get(outcome, 0) for outcome in ("unlocked", "by-hand-unlocked"))
    wrong = sum(found.counts.get(outcome, 0) for outcome in ("wrong-code", "too-many"))
    begun = sum(each.did == "start" for each in drills)
    says = (
        f"Copiers were unlocked {_times(opened)}, wrong codes were given {_times(wrong)}, and "
        f"{count(begun, 'drill')} {'was' if begun == 1 else 'were'} begun.",
    )
    labels = list(found.counts)
    series = [Series("steps", BLUE, tuple(found.counts.values()))]
    tables = []
    if found.steps:
        steps = tuple(
            (moment(scope, each.at), clean(each.device), each.outcome, each.scope, clean(each.who) or "at the copier")
            for each in found.steps
        )
        newest = f"The newest {len(steps)} of {many:,}." if many > len(steps) else ""
        tables.append(Table(("when", "copier", "outcome", "for", "by"), steps, says=newest))
    if drills:
        rows = tuple(
            (
                moment(scope, each.at),
                _device(each.device),
                each.did,
                words_of(each.reason),
                clean(each.who) or "its time was over",
            )
            for each in drills
        )
        tables.append(Table(("when", "copier", "drill", "reason", "by"), rows))
    return Chapter("unlocks", title, says, charts.rows(labels, series, "Unlocks by outcome"), tuple(tables))


def by_hand(summary: Summary) -> Chapter:
    """What people did to the appliance."""
    found, title = summary.by_hand, "Done by hand"
    if not found.many:
        return Chapter("by-hand", title, ("The ledger has nothing in this period that was done by hand.",))
    whose = sorted({clean(each.who) for each in found.rows})
    newest = f" The newest {len(found.rows)} are listed." if found.many > len(found.rows) else ""
    says = (
        f"{count(found.many, 'thing was', 'things were')} done by hand, by {wording.and_so_on(whose)}.{newest} "
        "Names are those of the machine's own users, as its kernel told them."
        + (" What they typed is left out, as it may name people." if summary.pseudonyms else ""),
    )
    rows = tuple(
        (
            number(each.seq),
            moment(summary.scope, each.at),
            clean(each.who),
            clean(each.did),
            _device(each.device),
            words_of(each.words),
        )
        for each in found.rows
    )
    return Chapter(
        "by-hand",
        title,
        says,
        None,
        (Table(("entry", "when", "who", "what", "copier", "words"), rows, frozenset({0})),),
    )


def proof(summary: Summary, report: Report, checkpoint: Checkpoint | None) -> Chapter:
    """By what it can be checked that nobody altered the ledger."""
    says = [
        f"Every figure here comes from a ledger in which each of {report.entries:,} entries is bound to the one before "
        "it by a hash."
    ]
    if report.wrong is not None:
        says.append(
            f"WHEN THIS REPORT WAS MADE THE LEDGER WAS FOUND ALTERED OR DAMAGED: {clean(report.wrong)}. Figures that "
            "rest on it may be wrong; keep the file as it is and ask whoever looks after it."
        )
    else:
        says.append(
            f"When this report was made, the whole chain held, every row of the ledger said what its entry says"
            f"{', and every signature was right' if report.checkpoints else ''}."
        )
    if checkpoint is not None and report.signed_through:
        newer = count(report.unsigned, "newer entry is", "newer entries are") if report.unsigned else "none is"
        says.append(
            f"Entries up to {report.signed_through:,} are signed by the key with the fingerprint "
            f"{report.installation}, last on {wording.written(summary.scope, report.signed_at or '')}; "
            f"{newer} not signed yet."
        )
    elif report.wrong is None:
        says.append("No entry is signed: whoever can write the file could have made all of it anew.")
    says.append(
        "To check it yourself, take the ledger or an export of it and run: locum ledger verify FILE --public-key KEY. "
        "Compare the fingerprint with the one that was written down when Locum was installed (locum ledger key), and "
        "give a checkpoint that was kept elsewhere with --witness: this one, or a line of the syslog server."
    )
    rows = [
        ("entries", f"{report.first:,} to {report.last:,}"),
        ("hash of the last entry (head)", report.head),
        ("checkpoints", number(report.checkpoints)),
        ("signed through entry", number(report.signed_through) if report.signed_through else "none"),
        ("fingerprint of the key", report.installation or "none"),
        ("entries whose personal data was erased", number(report.erased)),
    ]
    rows += [("remark", clean(remark)) for remark in report.remarks]
    lines = (checkpoint.line,) if checkpoint is not None else ()
    return Chapter("proof", "Proof", tuple(says), None, (Table(("what", "value"), tuple(rows)),), lines)


def limits(summary: Summary) -> Chapter:
    """What this report cannot say."""
    troubles = summary.troubles
    says = [
        "It counts what the copiers reported. A page that no copier reported, or that was made while Locum did not "
        "stand in between, is not in it; the copiers' own meters show such gaps, where they were read.",
        "Times are those of Locum's clock, at which it took a record; jobs that a copier kept back and sent later "
        "stand under the later time.",
        "Pages in colour are as far as the copiers said; one that does not say counts as none.",
        "What the server did with the records after it took them, and what people were charged, only the server knows.",
        "What is still open is as it stood when the report was made, not at the end of the period.",
    ]
    if summary.until < summary.scope.last:
        says.append(
            f"The newest entry is of {wording.spoken(summary.scope, summary.until)}; of the time after it nothing is "
            "known."
        )
    if summary.began > summary.scope.first:
        says.append(
            f"The first entry is of {wording.spoken(summary.scope, summary.began)}; of the time before it nothing is "
            "known."
        )
    if troubles.gaps:
        says.append(
            f"{_times(troubles.gaps).capitalize()} records were relayed but could not be stored (notes of the kind "
            "gap): they are missing here, and the server may have them."
        )
    if troubles.clock_steps:
        says.append(
            f"Locum's clock was set {_times(troubles.clock_steps)} (notes of the kind clock-step): lengths of time "
            "across that are wrong."
        )
    if troubles.starts:
        says.append(f"Locum was started {_times(troubles.starts)}; while it was down it recorded nothing.")
    if troubles.unreadable:
        says.append(f"{count(troubles.unreadable, 'packet')} could not be read as records (table quarantine).")
    if troubles.erased:
        says.append(
            f"The personal data of {count(troubles.erased, 'entry', 'entries')} of this period was erased: their pages "
            "are counted, under no name."
        )
    says += _of_copy(summary)
    return Chapter("limits", "What this report cannot say", tuple(says))


def _of_copy(summary: Summary) -> list[str]:
    about = summary.about_copy
    if not about:
        return []
    says = [f"It was made from {_a(clean(about.get('kind', 'copy')))}, not from the ledger at work."]
    if about.get("plain", "whole") != "whole":
        filters = words_of(about.get("filters", ""))
        says.append(f"That file holds a part of the ledger only ({filters}): what was left out is not counted.")
    if about.get("personal", "whole") == "none" and about.get("pseudonymised", "0") != "1":
        says.append("That file names no people.")
    return says


def _a(kind: str) -> str:
    return f"an {kind}" if kind[:1] in "aeiou" else f"a {kind}"


def _device(device: str) -> str:
    return "all" if device == _EVERY_DEVICE else clean(device)


def _times(many: int) -> str:
    return {0: "never", 1: "once"}.get(many, f"{many:,} times")
