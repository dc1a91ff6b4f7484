"""What the end of one record's call says of others: whose fault a fault is, which doubts count, and when to pause.

A fault is a record's own, unless the server gives the same one to three users in a row: then it is no word on those
records. What broke together is one cut and counts once: nothing more goes until the server has answered something, then
one record alone. The loss of contact explains every doubt before it. Equal faults, and records in doubt of three users,
pause the drain; then one record a minute is tried. Nothing is sent or written down here: `delivering.py` does that.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocols.papercut.calls import Fault, Value
from proxy.dialects.papercut.calls import Ended
from proxy.dialects.papercut.parcels import Parcel, Parcels, Stage, key_of

SEVERAL = 3
"""So many users with the same fault, or with records in doubt, are no coincidence."""
TRY_EVERY = 60.0
TRIED_BEFORE = 90.0
AFTER_DOUBTS = 5.0
NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of records that met a fault: these are refused, those wait again, due in `pause` seconds. `holds`:
    the server gives this fault to all.
    """

    refused: tuple[Parcel, ...] = ()
    waiting: tuple[Parcel, ...] = ()
    pause: float = 0.0
    holds: bool = False


class Judge:
    """`held`: why the drain pauses, in the server's words or ours, "" it does not; `trial`: whether one record may be
    tried all the same. Times are monotonic, in seconds.
    """

    def __init__(self) -> None:
        self.held = ""
        self.trial = False
        self._trial_at = 0.0
        self._held_for_doubts = False
        self._accused: list[Parcel] = []
        self._suspects: list[Parcel] = []
        self._equal = ""
        self._equal_users: set[str] = set()
        self._doubted: set[str] = set()
        self._cut_at = self._broken_at = NEVER
        self._asking_until = NEVER
        self._wary = False

    def ended(self, how: Ended) -> None:
        """A record's call has ended: if by an answer, the server is there, whatever broke before."""
        self._wary = self._wary and not isinstance(how, Value | Fault)

    # The pause

    @property
    def lets_go(self) -> bool:
        """Whether more records may be taken in hand."""
        return not self.held or self.trial

    def hold(self, why: str, pause: float, now: float, *, for_doubts: bool = False) -> None:
        """The drain pauses; the first trial is due in `pause` seconds."""
        self.held, self.trial, self._trial_at = why, False, now + pause
        self._held_for_doubts = for_doubts

    def taken(self, now: float) -> None:
        """A record was taken in hand: while the drain pauses it is the trial of this minute."""
        if self.held:
            self.trial, self._trial_at = False, now + TRY_EVERY

    def idle(self, now: float) -> None:
        """Nothing is in hand: the next trial may be due."""
        self.trial = self.trial or (bool(self.held) and now >= self._trial_at)

    def release(self) -> None:
        """The row of equal faults is broken, or a person wants the records tried: the drain goes on."""
        self.held, self.trial, self._held_for_doubts = "", False, False
        self._equal, self._equal_users, self._doubted = "", set(), set()

    def contact_lost(self, now: float) -> None:
        """The server is away, which explains the doubts: they hold nothing back when it is there again."""
        self._cut_at = now
        self._wary, self._asking_until = False, NEVER
        self._doubted = set()
        if self._held_for_doubts:
            self.held, self.trial, self._held_for_doubts = "", False, False

    # Faults

    def accuse(self, parcel: Parcel, fault: str, now: float) -> None:
        """The server refused this record; whether it refuses all calls must be found out."""
        parcel.stage, parcel.fault, parcel.fault_at = Stage.JUDGING, fault, now
        self._accused.append(parcel)

    @property
    def must_ask(self) -> bool:
        """Whether it must be found out if the server refuses all calls."""
        return bool(self._accused)

    def answered(self, asked_at: float) -> list[Parcel]:
        """What was asked at `asked_at` is known now: gives the accused that it is about."""
        self._asking_until = NEVER
        judged = [parcel for parcel in self._accused if parcel.fault_at <= asked_at]
        self._accused = [parcel for parcel in self._accused if parcel.fault_at > asked_at]
        return judged

    def weigh(self, parcel: Parcel) -> Verdict:
        """The server takes calls, and refused this record: for itself, or as it refuses all?"""
        if self.held and parcel.fault == self.held:
            return Verdict(waiting=(parcel,), pause=TRIED_BEFORE)
        refused: tuple[Parcel, ...] = ()
        if parcel.fault != self._equal:
            self.release()
            refused = self.suspects()
            self._equal = parcel.fault
        self._equal_users.add(key_of(parcel.user))
        self._suspects.append(parcel)
        if len(self._equal_users) < SEVERAL:
            return Verdict(refused)
        return Verdict(refused, self.suspects(), holds=True)

    def suspects(self) -> tuple[Parcel, ...]:
        """Those whose faults may be everybody's; they are suspected no more."""
        suspects, self._suspects = self._suspects, []
        return tuple(suspects)

    def left_over(self, parcels: Parcels) -> tuple[Parcel, ...]:
        """The suspects, if nothing else is under way that could tell: then each fault is the record's own."""
        if not self._suspects or self._accused or parcels.count(Stage.MARKING, Stage.CALLING):
            return ()
        return self.suspects()

    # Doubts

    def counts(self, parcel: Parcel, *, cut: bool) -> bool:
        """Whether a record in doubt says anything new of the server. `cut`: its connection ended."""
        return parcel.called_at > (max(self._cut_at, self._broken_at) if cut else self._cut_at)

    def broke(self, now: float, patience: float) -> None:
        """Connections broke: the server must answer something before more is sent, in `patience` seconds at most."""
        self._broken_at, self._wary = now, True
        self._asking_until = now + patience

    def asking(self, now: float) -> bool:
        """Whether the server is being asked, after a cut, if it is there."""
        return now < self._asking_until

    def room(self, room: int, parcels: Parcels) -> int:
        """Of the room for so many records, what is left after a cut: one record alone, until one was answered."""
        if not self._wary:
            return room
        sent_since = sum(
            parcel.stage is Stage.MARKING or (parcel.stage is Stage.CALLING and parcel.called_at > self._broken_at)
            for parcel in parcels
        )
        return min(room, 1 - sent_since)

    def doubted(self, user: str) -> bool:
        """One more record is in doubt, of this user. Whether it is of too many users for the drain to go on."""
        if self.held:
            return False
        self._doubted.add(key_of(user))
        if len(self._doubted) < SEVERAL:
            return False
        self._doubted = set()
        return True
