"""Notifications: each alarm that leaves the box goes to every target as a trap of LOCUM-MIB, SNMPv3 or SNMPv2c.

A trap is sent once and nobody confirms it. So whoever must not miss an alarm reads the state too, or takes syslog over
TCP (`appliance/alerts.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from appliance.snmp.figures import cut
from protocols.snmp import messages
from protocols.snmp.messages import Message, Pdu, Varbind
from proxy.commands import Command, Open, Send, Tell
from proxy.events import Event, Moment
from proxy.snmp import oids
from proxy.snmp.engine import Engine

KINDS = {
    "outage": oids.OUTAGE,
    "recovery": oids.RECOVERY,
    "unlock": oids.UNLOCK,
    "disk": oids.DISK,
    "refused": oids.REFUSED_RECORD,
}
NOT_TOLD = frozenset({"checkpoint"})
"""Alarms that are for a witness, not for a person."""
SUBJECTS = ("upstream", "device", "record")


class Notifier:
    """`user`: of SNMPv3, "" for SNMPv2c with `community`."""

    def __init__(self, engine: Engine, targets: Sequence[tuple[str, int]], user: str, community: bytes) -> None:
        self._engine = engine
        self._targets = targets
        self._user = user
        self._community = community
        self._number = 0

    def ways(self) -> list[Command]:
        """The ways to the targets."""
        return [
            Open(("snmp", "notify", number), self, address, port)
            for number, (address, port) in enumerate(self._targets)
        ]

    def handle(self, event: Event) -> list[Command]:
        return []

    def told(self, tell: Tell, at: Moment) -> list[Command]:
        """What an alarm leads to."""
        if tell.alarm in NOT_TOLD:
            return []
        data = self._encoded(self._varbinds(tell, at), at)
        return [Send(("snmp", "notify", number), data) for number in range(len(self._targets))]

    def _varbinds(self, tell: Tell, at: Moment) -> list[Varbind]:
        subject = next((str(tell.context[key]) for key in SUBJECTS if key in tell.context), "")
        return [
            Varbind(oids.SYS_UPTIME, "timeticks", self._engine.uptime(at)),
            Varbind(oids.SNMP_TRAP, "oid", KINDS.get(tell.alarm, oids.ALARM)),
            Varbind(oids.ALARM_KIND, "octets", cut(tell.alarm)),
            Varbind(oids.ALARM_LEVEL, "octets", cut(tell.level)),
            Varbind(oids.ALARM_TEXT, "octets", cut(tell.text)),
            Varbind(oids.ALARM_SUBJECT, "octets", cut(subject)),
        ]

    def _encoded(self, varbinds: list[Varbind], at: Moment) -> bytes:
        if self._user:
            return self._engine.notification(self._user, varbinds, at)
        self._number = (self._number + 1) & 0x7FFFFFFF
        return messages.encode(Message(messages.V2C, self._community, Pdu.TRAP, self._number, 0, 0, tuple(varbinds)))
