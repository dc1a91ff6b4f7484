"""snmpsim, serving recordings of real copiers over UDP; the community is the name of the recording.

The recordings are those beside the project, brought into snmpsim's form: its own, JSON of two kinds, walks as
net-snmp prints them, and a table of validated counters. One process serves them all, by SNMPv1 and v2c.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from protocols.snmp import messages
from tests.peers.ports import LOOPBACK, free_port
from tests.peers.skips import SHARED_DATA, skip
from tests.peers.waiting import eventually

TAGS = {
    "Integer": "2", "OctetString": "4x", "ObjectIdentifier": "6", "IPAddress": "64x", "Counter32": "65",
    "Gauge32": "66", "TimeTicks": "67", "Counter64": "70",
}  # fmt: skip
WALKED = {"INTEGER": "2", "STRING": "4x", "Hex-STRING": "4x", "OID": "6", "Timeticks": "67", "Counter32": "65"}
LIFE, UPTIME = "1.3.6.1.2.1.43.10.2.1.4.1.1", "1.3.6.1.2.1.1.3.0"
Rows = dict[str, tuple[str, str]]


class SnmpSim:
    """`python -m snmpsim` on a port of its own, serving every `*.snmprec` in `folder`; by SNMPv3, its name is the
    context. `options`: more of its own.
    """

    def __init__(self, folder: Path, options: Sequence[str] = ()) -> None:
        program = Path(sys.executable).with_name("snmpsim-command-responder")
        if not program.exists():
            skip("snmpsim is not installed")
        self.port = free_port()
        cache = folder.parent / f"{folder.name}-cache"
        cache.mkdir(exist_ok=True)
        # It wants to become somebody else; whom it becomes must be able to read the interpreter's own files.
        who = ["--process-user=root", "--process-group=root"] if os.geteuid() == 0 else []
        self._log = (folder.parent / f"{folder.name}.log").open("wb")
        self._process = subprocess.Popen(
            [
                program,
                *who,
                f"--cache-dir={cache}",
                "--log-level=error",
                f"--data-dir={folder}",
                *options,
                f"--agent-udpv4-endpoint={LOOPBACK[4]}:{self.port}",
            ],
            stdout=self._log,
            stderr=self._log,
        )  # fmt: skip
        community = sorted(folder.glob("*.snmprec"))[0].stem
        eventually(lambda: self._answers(community), within=60, saying="snmpsim answers", every=0.1)

    def _answers(self, community: str) -> bool:
        assert self._process.poll() is None, Path(self._log.name).read_text("utf-8", "replace")[-2000:]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.settimeout(0.5)
            probe.connect((LOOPBACK[4], self.port))
            try:
                probe.send(messages.request(messages.V2C, community.encode(), 1, [UPTIME]))
                return bool(probe.recv(65_535))
            except OSError:
                return False

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._log.close()


def recordings(data: Path | None = None) -> dict[str, Rows]:
    """Every recording of a real copier, by name: object identifiers with snmpsim's type and value. Skips without."""
    folder = (data or SHARED_DATA) / "snmp"
    if not folder.is_dir():
        skip("no recordings of copiers beside the project (shared/data/snmp)")
    found: dict[str, Rows] = {}
    for file in sorted((folder / "librenms-snmprec").glob("*.snmprec")):
        found[file.stem] = _snmprec(file.read_text("utf-8", "replace"))
    for file in sorted((folder / "printmaster-walk").glob("*.json")):
        found[f"walk-{file.stem.removesuffix('_snmp')}"] = _walk_json(json.loads(file.read_text("utf-8")))
    for file in sorted((folder / "brother-json").glob("*.json")):
        found[f"brother-{file.stem}"] = _brother_json(json.loads(file.read_text("utf-8")))
    for file in sorted((folder / "issue-walks").glob("*.txt")):
        found[file.name.partition(".")[0]] = _walk_text(file.read_text("utf-8"))
    for file in sorted((folder / "validated-counters").glob("*.tsv")):
        found[file.stem] = _validated(file.read_text("utf-8"))
    return found


def serve(folder: Path, recorded: dict[str, Rows], options: Sequence[str] = ()) -> SnmpSim:
    """snmpsim over these recordings."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in recorded.items():
        ordered = sorted(rows.items(), key=lambda row: tuple(map(int, row[0].split("."))))
        text = "".join(f"{oid}|{kind}|{value}\n" for oid, (kind, value) in ordered)
        (folder / f"{name}.snmprec").write_text(text, "utf-8")
    return SnmpSim(folder, options)


def _snmprec(text: str) -> Rows:
    rows: Rows = {}
    for line in text.splitlines():
        oid, bar, rest = line.partition("|")
        kind, more, value = rest.partition("|")
        if bar and more and re.fullmatch(r"[0-9.]+", oid):
            if kind == "4":
                kind, value = "4x", value.encode().hex()
            rows[oid] = (kind, value.lstrip(".") if kind == "6" else value)
    return rows


def _walk_json(walk: list[dict[str, str]]) -> Rows:
    rows: Rows = {}
    for each in walk:
        kind, value = TAGS[each["type"]], each["value"]
        if kind == "4x":
            value = each.get("hex_value") or value.encode().hex()
        elif kind == "64x":
            value = bytes(map(int, value.split("."))).hex() if value else "00000000"
        rows.setdefault(each["oid"].lstrip("."), (kind, value.lstrip(".")))
    return rows


def _brother_json(told: dict[str, object]) -> Rows:
    rows: Rows = {"1.3.6.1.2.1.1.2.0": ("6", "1.3.6.1.4.1.2435.2.3.9.1")}
    for oid, value in told.items():
        if isinstance(value, list):
            rows[oid] = ("4x", "".join(value) + "ff")
        elif isinstance(value, str):
            number = {LIFE: "65", UPTIME: "67"}.get(oid)
            rows[oid] = (number, value) if number else ("4x", value.encode().hex())
    return rows


def _walk_text(text: str) -> Rows:
    rows: Rows = {}
    for line in text.splitlines():
        found = re.fullmatch(r'iso((?:\.[0-9]+)+) = (?:([A-Za-z0-9-]+): )?"?(.*?)"?\s*', line)
        if found is None:
            continue
        kind, value = WALKED.get(found[2] or "STRING", "4x"), found[3]
        if found[2] == "Hex-STRING":
            value = value.replace(" ", "")
        elif kind == "4x":
            value = value.encode().hex()
        elif kind == "67":
            value = re.sub(r"^\(([0-9]+)\).*", r"\1", value)
        rows["1" + found[1]] = (kind, value.replace("iso.", "1.").lstrip("."))
    return rows


def _validated(text: str) -> Rows:
    """A real walk carries one more index on the rows of 42.3.1.1.1 than its page prints."""
    rows: Rows = {
        "1.3.6.1.2.1.1.1.0": ("4x", b"KYOCERA Document Solutions Printing System".hex()),
        "1.3.6.1.2.1.1.2.0": ("6", "1.3.6.1.4.1.1347.41"),
        "1.3.6.1.4.1.1347.43.5.1.1.1.1": ("4x", b"TASKalfa 6052ci".hex()),
    }
    for line in text.splitlines():
        if not line.startswith("#"):
            oid, value, _ = line.split("\t")
            rows[re.sub(r"(\.1347\.42\.3\.1\.1\.1)\.([0-9])$", r"\1.1.\2", oid)] = ("65", value)
    return rows
