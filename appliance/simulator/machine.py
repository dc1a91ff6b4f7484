"""A copier's page counters behind SNMP, for a lab: they move as people copy, print, scan and fax.

The machine answers as a Kyocera does: totals by function and colour, and a life count that is more than the pages. With
`plain` it has the Printer MIB only. Counters are Counter32: they begin again at 0 after 2^32. `reset`, `exchange`,
`reboot`, `sleep` and `wake` are what happens to machines.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field, replace

from protocols.errors import ProtocolError
from protocols.snmp.messages import V1, Message, Pdu, Status, Varbind, decode, encode

WRAPS = 1 << 32
CENTISECONDS = 100
MOST_ROWS = 64
KYOCERA = "1.3.6.1.4.1.1347"
FUNCTIONS = {"print": 1, "copy": 2, "fax": 4}
DEEDS = ("copy", "print", "fax", "scan", "reset", "exchange", "reboot", "sleep", "wake", "wrap")


@dataclass(slots=True)
class Machine:
    """`name` is its number; `started`: monotonic seconds when it was switched on."""

    name: str
    community: bytes = b"public"
    plain: bool = False
    started: float = 0.0
    serial: int = 1
    asleep: bool = False
    counters: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind in FUNCTIONS:
            self.counters.setdefault(f"{kind}-black", 0)
            self.counters.setdefault(f"{kind}-color", 0)
        for kind in ("scan", "life"):
            self.counters.setdefault(kind, 0)

    # What people do

    def make(self, kind: str, pages: int, color: int = 0) -> None:
        """A job: copy, print or fax of `pages`, of these `color` in colour; or scan."""
        if kind == "scan":
            self._count("scan", pages)
            return
        self._count(f"{kind}-color", min(color, pages))
        self._count(f"{kind}-black", pages - min(color, pages))
        self._count("life", pages)

    def do(self, deed: str, numbers: tuple[int, ...], now: float) -> None:
        """One of `DEEDS`. Raises ValueError for another."""
        if deed in (*FUNCTIONS, "scan"):
            self.make(deed, *(numbers or (1,))[:2])
        elif deed in ("reset", "exchange"):
            self.counters = dict.fromkeys(self.counters, 0)
            self.serial += deed == "exchange"
        elif deed == "reboot":
            self.started = now
        elif deed in ("sleep", "wake"):
            self.asleep = deed == "sleep"
        elif deed == "wrap":
            left = WRAPS - (numbers or (10,))[0]
            others = self.meters["total"] - self.counters["copy-black"]
            self.counters["copy-black"], self.counters["life"] = (left - others) % WRAPS, left % WRAPS
        else:
            raise ValueError(f"{deed!r} is nothing that a machine does; it does {', '.join(DEEDS)}")

    @property
    def meters(self) -> dict[str, int]:
        """What its counters show: total, color, copy, print, fax, scan."""
        shown = {kind: self._of(kind, "black") + self._of(kind, "color") for kind in FUNCTIONS}
        color = sum(self._of(kind, "color") for kind in FUNCTIONS)
        return {"total": sum(shown.values()) % WRAPS, "color": color, **shown, "scan": self.counters["scan"]}

    def _of(self, kind: str, color: str) -> int:
        return self.counters[f"{kind}-{color}"]

    def _count(self, counter: str, pages: int) -> None:
        self.counters[counter] = (self.counters[counter] + pages) % WRAPS

    # SNMP

    def objects(self, now: float) -> dict[str, Varbind]:
        """What its agent has."""
        uptime = int((now - self.started) * CENTISECONDS) % WRAPS
        told = [
            Varbind("1.3.6.1.2.1.1.1.0", "octets", b"KYOCERA Document Solutions Printing System"),
            Varbind("1.3.6.1.2.1.1.2.0", "oid", f"{KYOCERA}.41"),
            Varbind("1.3.6.1.2.1.1.3.0", "timeticks", uptime),
            Varbind("1.3.6.1.2.1.25.3.2.1.3.1", "octets", f"Lab copier {self.name}".encode()),
            Varbind("1.3.6.1.2.1.43.5.1.1.17.1", "octets", f"LAB{self.name}-{self.serial}".encode()),
            Varbind("1.3.6.1.2.1.43.10.2.1.3.1.1", "integer", 7),
            Varbind("1.3.6.1.2.1.43.10.2.1.4.1.1", "counter32", self.counters["life"]),
        ]
        if self.plain:
            told[0] = Varbind("1.3.6.1.2.1.1.1.0", "octets", b"A copier of a lab")
            told[1] = Varbind("1.3.6.1.2.1.1.2.0", "oid", "1.3.6.1.4.1.32473.1")
            return {each.oid: each for each in told}
        meters = self.meters
        told.append(Varbind(f"{KYOCERA}.43.10.1.1.12.1.1", "counter32", meters["total"]))
        for kind, number in FUNCTIONS.items():
            told.append(Varbind(f"{KYOCERA}.42.3.1.1.1.1.{number}", "counter32", meters[kind] % WRAPS))
            told.append(Varbind(f"{KYOCERA}.42.3.1.2.1.1.{number}.1", "counter32", self._of(kind, "black")))
            told.append(Varbind(f"{KYOCERA}.42.3.1.2.1.1.{number}.3", "counter32", self._of(kind, "color")))
        told.append(Varbind(f"{KYOCERA}.42.3.1.4.1.1.1", "counter32", meters["scan"]))
        return {each.oid: each for each in told}

    def answer(self, datagram: bytes, now: float) -> bytes | None:
        """The answer to a request of SNMPv1 or v2c; None: none is given."""
        try:
            asked = decode(datagram)
            if self.asleep or asked.community != self.community:
                return None
            return encode(respond(asked, self.objects(now)))
        except ProtocolError:
            return None


def respond(asked: Message, has: dict[str, Varbind]) -> Message:
    """An agent's answer to a GET, GET_NEXT or GET_BULK, where it has these objects."""
    answer = replace(asked, pdu=Pdu.RESPONSE, status=0, index=0)
    found: list[Varbind] = []
    order = sorted(has, key=_key)
    keys = [_key(oid) for oid in order]
    for place, each in enumerate(asked.varbinds, 1):
        if asked.pdu is Pdu.GET:
            found.append(has.get(each.oid) or Varbind(each.oid, "no-such-instance"))
        elif asked.pdu in (Pdu.GET_NEXT, Pdu.GET_BULK):
            first = bisect_right(keys, _key(each.oid))
            many = max(1, min(asked.index, MOST_ROWS)) if asked.pdu is Pdu.GET_BULK else 1
            following = [has[oid] for oid in order[first : first + many]]
            found += following if following else [Varbind(each.oid, "end-of-mib")]
        else:
            return replace(answer, status=Status.NO_ACCESS, index=place)
        if asked.version == V1 and found[-1].absent:
            return replace(answer, status=Status.NO_SUCH_NAME, index=place)
    return replace(answer, varbinds=tuple(found))


def _key(oid: str) -> tuple[int, ...]:
    return tuple(map(int, oid.split(".")))
