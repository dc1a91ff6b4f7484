"""Whatever happens to a copier and at it, the jobs add up to what its meter moved by, and nothing is counted twice."""

from __future__ import annotations

from collections import Counter as Tally
from contextlib import suppress
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.simulator.machine import FUNCTIONS, Machine
from protocols.meters import identity
from protocols.meters.table import read_table, shipped_text
from proxy.metering.copier import Account, Copier, Reading
from proxy.metering.differences import jobs
from storage.answers import OpenSession
from storage.records import Mode

TABLE = read_table(shipped_text())
WALL = 1_795_000_000_000

DEEDS = st.one_of(
    st.tuples(st.sampled_from(sorted(FUNCTIONS)), st.integers(1, 60), st.integers(0, 60)),
    st.tuples(st.just("scan"), st.integers(1, 60), st.just(0)),
    st.tuples(st.just("swipe"), st.integers(1, 3), st.just(0)),
    st.tuples(
        st.sampled_from(["end", "read", "sleep", "wake", "reboot", "restart", "reset", "exchange"]),
        st.just(0),
        st.just(0),
    ),
    st.tuples(st.just("wait"), st.integers(1, 900), st.just(0)),
)


@dataclass
class Bench:
    """A machine, and what is known of its meters; `lost`: pages that a reset took with it unseen."""

    plain: bool
    near_wrap: bool
    machine: Machine = field(init=False)
    copier: Copier = field(default_factory=Copier)
    now: float = 100.0
    open: OpenSession | None = None
    settled: list[Account] = field(default_factory=list)
    made: int = 0
    unseen: int = 0
    lost: int = 0
    swipes: int = 0

    def __post_init__(self) -> None:
        self.machine = Machine("1", plain=self.plain)
        self.machine.make("copy", 500)
        if self.near_wrap:
            self.machine.do("wrap", (40,), self.now)
        self.read()

    @property
    def wall(self) -> int:
        return WALL + int(self.now * 1000)

    def read(self) -> None:
        if self.machine.asleep:
            return
        found = self.machine.objects(self.now)
        vendor = identity.vendor_of(found, TABLE)
        profile = self.copier.profile or identity.profile(vendor, found)
        self.copier.profile = profile
        values = identity.read_counters(profile, found)
        serial = identity.text(found.get(profile.serial_object))
        outcome = self.copier.read(Reading(values, identity.uptime_of(found), serial, self.now, self.wall))
        if outcome.event != "reading":
            self.lost += self.unseen
        self.unseen = 0
        self.settled += outcome.settled

    def do(self, deed: str, number: int, color: int) -> None:
        self.now += 0.5
        if deed in FUNCTIONS:
            self.machine.make(deed, number, color)
            self.made += number
            self.unseen += number
        elif deed == "scan":
            self.machine.make(deed, number)
        elif deed == "swipe":
            self.end()
            self.swipes += 1
            mark, card = f"{self.swipes:016x}", f"CARD{number}"
            self.open = OpenSession(mark, "d", "hq", card, self.wall, self.wall + 3_600_000, Mode.OFFLINE)
            self.copier.began(self.open, self.now, self.wall)
        elif deed == "end":
            self.end()
        elif deed == "read":
            self.read()
        elif deed == "wait":
            self.now += number
            self.read()
        elif deed == "restart":
            self.restart()
        elif deed == "reset":
            self.reset()
        else:
            self.machine.do(deed, (), self.now)

    def reset(self) -> None:
        """A reset is known by a counter that is lower when it is read next: so it is read, before it is higher again.
        Within a few pages of 2^32 a reset looks like a wrap, but for the reboot that goes with it.
        """
        if not self.machine.asleep:
            self.lost, self.unseen = self.lost + self.unseen, 0
            self.machine.do("reset", (), self.now)
            if self.near_wrap:
                self.machine.do("reboot", (), self.now)
            self.read()

    def end(self) -> None:
        if self.open is not None:
            self.copier.ended(self.open, self.now)
            self.open = None

    def restart(self) -> None:
        text = self.copier.saved([])
        self.now += 30
        self.copier = Copier()
        assert self.copier.restore(text, self.now, self.wall) == []
        if self.open is not None:
            self.copier.began(self.open, self.now, self.wall)

    def pages(self) -> int:
        return sum(counts.pages for each in self.settled for counts in jobs(each.usage) if counts.kind != "scan")


def finish(bench: Bench) -> None:
    """Everybody goes, the machine is awake, and it is quiet for a while."""
    bench.end()
    bench.machine.asleep = False
    for _ in range(3):
        bench.do("wait", 400, 0)
    assert not bench.copier.pending


@settings(max_examples=300, deadline=None)
@given(st.lists(DEEDS, max_size=40), st.booleans(), st.booleans())
def test_the_sum_of_the_jobs_is_what_the_meter_moved_by(
    deeds: list[tuple[str, int, int]], plain: bool, near_wrap: bool
) -> None:
    bench = Bench(plain, near_wrap)
    for deed in deeds:
        bench.do(*deed)
    finish(bench)
    assert bench.pages() + bench.lost == bench.made
    for account in bench.settled:
        for counts in jobs(account.usage):
            assert counts.pages > 0
            assert 0 <= (counts.color_pages or 0) <= counts.pages


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 30)), min_size=1, max_size=12))
def test_with_a_reading_at_each_swipe_everybody_pays_for_their_own(visits: list[tuple[int, int]]) -> None:
    bench = Bench(plain=False, near_wrap=False)
    wanted: Tally[str] = Tally()
    for card, pages in visits:
        bench.do("swipe", card, 0)
        bench.do("read", 0, 0)
        bench.do("copy", pages, 0)
        bench.do("wait", 20, 0)
        wanted[f"CARD{card}"] += pages
    finish(bench)
    got: Tally[str] = Tally()
    for account in bench.settled:
        assert account.session is not None
        got[account.session.card] += sum(counts.pages for counts in jobs(account.usage))
    assert got == wanted


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["total", "color", "copy", "print", "fax", "scan", "copy_color", "print_color"]),
        st.integers(0, 500),
    )
)
def test_jobs_add_up_to_the_total_and_their_colour_to_the_colour(usage: dict[str, int]) -> None:
    made = [each for each in jobs(usage) if each.kind != "scan"]
    total = usage.get("total", 0)
    assert sum(each.pages for each in made) == total
    if "color" in usage:
        assert sum(each.color_pages or 0 for each in made) == min(usage["color"], total)
    assert all(each.pages > 0 and (each.color_pages or 0) <= each.pages for each in made)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_what_was_remembered_and_is_damaged_is_refused_with_one_kind_of_error(text: str) -> None:
    with suppress(ValueError):
        Copier().restore(text, 0.0, WALL)
