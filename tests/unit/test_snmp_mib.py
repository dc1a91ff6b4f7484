"""LOCUM-MIB: compilers take it, and the agent has exactly what it defines."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from pysmi.codegen import JsonCodeGen
from pysmi.compiler import MibCompiler
from pysmi.parser.smi import parserFactory
from pysmi.reader import FileReader
from pysmi.writer import CallbackWriter

from appliance.snmp import figures
from proxy.events import Moment
from proxy.metering.agents import Agent
from proxy.snmp import oids
from proxy.snmp.copier import CopierProxy
from proxy.snmp.engine import Engine
from proxy.snmp.settings import Access, ProxySettings
from proxy.tally import Tally
from tests.peers.netsnmp import MIBS
from tests.peers.skips import ROOT, need_program

FILE = ROOT / "appliance" / "snmp" / "LOCUM-MIB.txt"
AT = Moment(1000.0, 1_800_000_000_000, bytes(32))
COUNTS = {"waiting": 3, "sent": 1, "in_doubt": 0, "rejected": 2, "oldest": "2026-11-22T10:15:03.120Z"}
STATUS: dict[str, Any] = {
    "name": "library",
    "version": "1.0",
    "upstreams": [
        {
            "name": "hq", "dialect": "radius", "state": "offline", "proven": True, "cause": "no answer",
            "since": "2026-11-22T10:15:03.120Z", "outbox": COUNTS,
        }
    ],
    "outbox": COUNTS,
    "ledger": {"entries": 1 << 40, "jobs": 5, "head": "sha256:00", "bytes": 12_345_678},
    "storage": {"error": None, "free_bytes": 5_000_000_000, "total_bytes": 1, "level": "enough"},
    "dropped": {"snmp-replayed": 4},
}  # fmt: skip
DEVICES = [
    {
        "id": name, "address": "10.7.0.31", "upstream": "hq", "dialect": "radius", "drill": False, "sessions": 1,
        "last_seen": None, "offline": "unlocked-once",
    }
    for name in ("KM-1", "x" * 200)
]  # fmt: skip


@pytest.fixture(scope="module")
def compiled() -> dict[str, Any]:
    made: dict[str, str] = {}
    compiler = MibCompiler(
        parserFactory()(), JsonCodeGen(), CallbackWriter(lambda name, text, context: made.update({name: text}))
    )
    compiler.add_sources(FileReader(str(FILE.parent)), FileReader(str(ROOT / "tests" / "peers" / "mibs")))
    assert compiler.compile("LOCUM-MIB", rebuild=True)["LOCUM-MIB"] == "compiled"
    found: dict[str, Any] = json.loads(made["LOCUM-MIB"])
    return found


def tree() -> figures.Tree:
    engine = Engine(b"\x80\x00\x1f\x88\x05mib", 1, AT, Access(communities=(b"c",)))
    proxy = CopierProxy("OLD-1", engine, Agent("10.7.0.31"), ProxySettings(), Tally(), AT)
    return figures.tree(STATUS, DEVICES, [(proxy, 16101)], None, 500, AT)


def everything() -> list[str]:
    found, made = [], tree()
    at = made.after("1")
    while at.kind != "end-of-mib":
        found.append(at.oid)
        at = made.after(at.oid)
    return found


def test_the_agent_has_all_that_the_mib_lets_read_and_nothing_else(compiled: dict[str, Any]) -> None:
    defined = {
        each["oid"]: name
        for name, each in compiled.items()
        if isinstance(each, dict) and each.get("maxaccess") == "read-only"
    }
    ours = [oid for oid in everything() if oid.startswith(oids.ROOT)]
    has = {name for oid, name in defined.items() if any(each.startswith(f"{oid}.") for each in ours)}
    assert set(defined.values()) - has == {"locumProxyAge", "locumProxySource"}
    assert all(any(each.startswith(f"{oid}.") for oid in defined) for each in ours)
    assert {f"{compiled['locumProxyAge']['oid']}.0", f"{compiled['locumProxySource']['oid']}.0"} == oids.OURS


def test_notifications_and_what_they_say_have_the_numbers_of_the_mib(compiled: dict[str, Any]) -> None:
    names = ("Outage", "Recovery", "Unlock", "Disk", "RefusedRecord", "Alarm", "TrapKept")
    numbers = (oids.OUTAGE, oids.RECOVERY, oids.UNLOCK, oids.DISK, oids.REFUSED_RECORD, oids.ALARM, oids.TRAP_KEPT)
    assert [compiled[f"locum{name}"]["oid"] for name in names] == list(numbers)
    said = (
        "AlarmKind",
        "AlarmLevel",
        "AlarmText",
        "AlarmSubject",
        "TrapEntry",
        "TrapArrived",
        "TrapFrom",
        "TrapDigest",
    )
    told = (oids.ALARM_KIND, oids.ALARM_LEVEL, oids.ALARM_TEXT, oids.ALARM_SUBJECT)
    told += (oids.KEPT_ENTRY, oids.KEPT_ARRIVED, oids.KEPT_FROM, oids.KEPT_DIGEST)
    assert [f"{compiled[f'locum{name}']['oid']}.0" for name in said] == list(told)


def test_net_snmp_knows_its_names() -> None:
    program = need_program("snmptranslate", "snmp")
    known = subprocess.run(
        [program, "-M", MIBS, "-m", "LOCUM-MIB", "-On", "LOCUM-MIB::locumTrapKept"],
        capture_output=True, text=True, check=True, timeout=20,
    )  # fmt: skip
    assert known.stdout.strip() == f".{oids.TRAP_KEPT}"
    assert "Unlinked" not in known.stderr


def test_smilint_finds_nothing() -> None:
    program = need_program("smilint", "smitools")
    found = subprocess.run(
        [program, "-l", "5", str(FILE)],
        capture_output=True, text=True, check=False, timeout=20,
        env={"SMIPATH": MIBS, "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    said = [line for line in (found.stdout + found.stderr).splitlines() if FILE.name in line]
    assert said == []


def test_a_device_with_a_name_too_long_for_an_index_is_not_listed() -> None:
    listed = [oid for oid in everything() if oid.startswith(f"{oids.DEVICES}.2.")]
    assert listed == [f"{oids.DEVICES}.2.{'.'.join(str(octet) for octet in b'KM-1')}"]
