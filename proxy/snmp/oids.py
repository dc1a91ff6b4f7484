"""The names of LOCUM-MIB (`appliance/snmp/LOCUM-MIB.txt`) and of the few standard objects that Locum sends.

No enterprise number is assigned to Locum. The module stands in the playpen that Net-SNMP leaves to everybody
(NET-SNMP-MIB::netSnmpPlaypen), under a number of our choice.
"""

from __future__ import annotations

ROOT = "1.3.6.1.4.1.8072.9999.9999.5601"
OBJECTS = f"{ROOT}.1"
NOTIFICATIONS = f"{ROOT}.0"

APPLIANCE = f"{OBJECTS}.1"
UPSTREAMS = f"{OBJECTS}.2.1.1"
DEVICES = f"{OBJECTS}.3.1.1"
OUTBOX = f"{OBJECTS}.4"
LEDGER = f"{OBJECTS}.5"
PROXIES = f"{OBJECTS}.6.1.1"
TRAPS = f"{OBJECTS}.7"
REFUSED = f"{OBJECTS}.8.1.1"
TOLD = f"{OBJECTS}.9"

AGE = f"{OBJECTS}.6.2.0"
SOURCE = f"{OBJECTS}.6.3.0"
OURS = frozenset({AGE, SOURCE})
"""What is asked of a copier's proxy beside the copier's own objects."""

ALARM_KIND, ALARM_LEVEL, ALARM_TEXT, ALARM_SUBJECT = (f"{TOLD}.{number}.0" for number in (1, 2, 3, 4))
KEPT_ENTRY, KEPT_ARRIVED, KEPT_FROM, KEPT_DIGEST = (f"{TOLD}.{number}.0" for number in (5, 6, 7, 8))

OUTAGE, RECOVERY, UNLOCK, DISK, REFUSED_RECORD, ALARM, TRAP_KEPT = (f"{NOTIFICATIONS}.{n}" for n in range(1, 8))

SYS_DESCR, SYS_OBJECT_ID, SYS_UPTIME, SYS_NAME = (f"1.3.6.1.2.1.1.{number}.0" for number in (1, 2, 3, 5))
SNMP_TRAP = "1.3.6.1.6.3.1.1.4.1.0"
SNMP_TRAP_ADDRESS = "1.3.6.1.6.3.18.1.3.0"
