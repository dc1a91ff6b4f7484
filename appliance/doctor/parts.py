"""What is gathered: a name in the archive, a sentence on it, and how it is asked.

Each part is asked by itself; one that cannot be told says why in its place, for that is often what a helper looks for.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import distributions
from pathlib import Path
from shutil import which

from appliance import __version__
from appliance.client import ClientError, ask
from appliance.config import ConfigError, load
from appliance.doctor import redacting
from appliance.state_dir import LEDGER_NAME
from storage import keeping, times
from storage.database import reading
from storage.errors import StorageError
from storage.reader import Reader

LOG_LINES = 2_000
COMMAND_TIMEOUT = 20.0
"""Seconds that a program of others may take."""
_UNITS = ("locum.service", "locum-inline.service")
_SHOWN = (
    "Id", "LoadState", "UnitFileState", "ActiveState", "SubState", "Result", "NRestarts", "ExecMainStatus",
    "ExecMainCode", "ActiveEnterTimestamp", "InactiveEnterTimestamp", "MemoryCurrent", "CPUUsageNSec", "TasksCurrent",
    "FragmentPath", "DropInPaths", "AmbientCapabilities", "WatchdogUSec",
)  # fmt: skip
_FOLDERS = "/usr/sbin:/sbin:/usr/bin:/bin"
_KERNEL_SETTINGS = (
    "net/core/rmem_max", "net/core/wmem_max", "net/ipv4/ip_forward", "net/ipv4/conf/all/rp_filter",
    "net/ipv6/conf/all/forwarding", "net/bridge/bridge-nf-call-iptables", "fs/file-max",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """`name`: of the file in the archive. `ask` gives its text; what it may raise is in `CANNOT`."""

    name: str
    about: str
    ask: Callable[[], str]


CANNOT = (OSError, ValueError, ConfigError, ClientError, StorageError, subprocess.SubprocessError)


def parts(config: Path, state_dir: Path | None, redacted: Callable[[], str]) -> Iterator[Part]:
    """Everything, in the order in which it is asked. `redacted`: the configuration without its secrets."""
    yield Part("versions.txt", "Locum, Python, its packages, the kernel and the distribution", _versions)
    yield Part("config.json", "the configuration without secrets, users, comments and unknown keys", redacted)
    yield Part("check.txt", "what `locum check` says", lambda: _check(config))
    if state_dir is not None:
        yield Part("status.json", "what `locum status --json` says", lambda: _status(state_dir))
        yield Part("devices.json", "what `locum devices --json` says", lambda: _answer(state_dir, "devices"))
        yield Part("ledger.txt", "what `locum ledger check` says, and figures; nothing of what is kept", _of(state_dir))
        yield Part("files.txt", "names, sizes, owners and modes of Locum's files", lambda: _files(config, state_dir))
        yield Part("disk.txt", "the room in the ledger's file system", lambda: _disk(state_dir))
    yield Part("log.txt", f"the last {LOG_LINES:,} lines of Locum and of systemd on it", _log)
    yield Part("service.txt", "what systemd knows of the services", _service)
    yield Part("machine.txt", "load, memory, the clock and settings of the kernel", _machine)
    yield Part("network.txt", "interfaces, addresses, routes, rules of routing, ports that are listened on", _network)
    yield Part("nft.txt", "Locum's own tables of nftables, with addresses and MACs of copiers and servers", _nft)


def _versions() -> str:
    about = [
        f"Locum {__version__} in {Path(__file__).parents[2]}",
        f"Python {sys.version}",
        f"SQLite {sqlite3.sqlite_version}",
        f"kernel {platform.release()} {platform.machine()}, {platform.version()}",
    ]
    release = Path("/etc/os-release").read_text("utf-8").rstrip()
    packages = sorted({f"{each.metadata['Name']} {each.version}" for each in distributions()}, key=str.lower)
    return "\n".join([*about, "", release, "", *packages])


def _check(config: Path) -> str:
    from appliance.check import check_all  # Twisted and what else it loads is not needed by the other parts

    return "\n".join(f"{each.level.word:8} {each.what}: {each.text}" for each in check_all(load(config)))


def _answer(state_dir: Path, command: str) -> str:
    return json.dumps(ask(state_dir, command), indent=2, ensure_ascii=False)


def _status(state_dir: Path) -> str:
    """Why a drill is held is a person's own words, and may name people."""
    status = ask(state_dir, "status")
    for drill in status.get("drills") or []:
        drill["reason"] = redacting.REMOVED
    return json.dumps(status, indent=2, ensure_ascii=False)


def _of(state_dir: Path) -> Callable[[], str]:
    def told() -> str:
        file = state_dir / LEDGER_NAME
        with reading(file) as connection:
            figures = asdict(Reader(file, connection).figures())
        found = [f"{'wrong' if each.wrong else 'ok':<6}{each.what:<11} {each.words}" for each in keeping.check(file)]
        return "\n".join([*(f"{key} {value}" for key, value in figures.items()), "", *found])

    return told


def _files(config: Path, state_dir: Path) -> str:
    lines = []
    for folder in dict.fromkeys((config.parent, state_dir)):
        lines.append(f"{folder}:")
        for each in (folder, *sorted(folder.iterdir())):
            about = each.lstat()
            when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(about.st_mtime))
            name = "." if each == folder else each.name
            owner = f"{about.st_uid}:{about.st_gid}"
            lines.append(f"  {stat.filemode(about.st_mode)} {owner:>11} {about.st_size:>14,} {when} {name}")
    return "\n".join(lines)


def _disk(state_dir: Path) -> str:
    about = os.statvfs(state_dir)
    size, free = about.f_blocks * about.f_frsize, about.f_bavail * about.f_frsize
    mounted = [line.split() for line in Path("/proc/mounts").read_text("utf-8").splitlines()]
    inside = [each for each in mounted if state_dir.resolve().is_relative_to(each[1].replace("\\040", " "))]
    place = max(inside, key=lambda each: len(each[1]), default=["?", "?", "?", "?"])
    inodes = f"{about.f_favail:,} of {about.f_files:,} inodes free"
    return f"{free:,} of {size:,} bytes free, {inodes}\n{place[0]} on {place[1]}, {place[2]}, {place[3]}"


def _log() -> str:
    units = [f"--unit={unit}" for unit in _UNITS]
    fields = "--output-fields=MESSAGE,SYSLOG_IDENTIFIER,_SYSTEMD_UNIT"
    told = _said("journalctl", "--quiet", "--no-pager", "--output=json", fields, f"--lines={LOG_LINES}", *units)
    return "\n".join(redacting.log_lines(_entries(told)))


def _entries(told: str) -> Iterator[redacting.Entry]:
    for line in told.splitlines():
        entry = json.loads(line)
        message = entry.get("MESSAGE")
        if isinstance(message, str):  # one that is no text comes as a list of bytes, and is not ours
            program, unit = entry.get("SYSLOG_IDENTIFIER"), entry.get("_SYSTEMD_UNIT")
            at = times.text(int(entry["__REALTIME_TIMESTAMP"]) // 1000)
            yield redacting.Entry(at, "locum-inline" if unit == _UNITS[1] else str(program), message)


def _service() -> str:
    return _said("systemctl", "show", f"--property={','.join(_SHOWN)}", *_UNITS)


def _machine() -> str:
    lines = [f"load {Path('/proc/loadavg').read_text('ascii').strip()}, {os.cpu_count()} processors"]
    lines.append(f"up for {Path('/proc/uptime').read_text('ascii').split()[0]} s")
    lines += Path("/proc/meminfo").read_text("ascii").splitlines()[:5]
    for key in _KERNEL_SETTINGS:
        setting = Path("/proc/sys", key)
        lines.append(f"{key} = {setting.read_text('ascii').strip() if setting.exists() else 'not there'}")
    return "\n".join([*lines, "", _said("timedatectl", "show")])


def _network() -> str:
    asked = (
        "ip -details link", "ip address", "ip -4 rule", "ip -6 rule", "ip -4 route show table all",
        "ip -6 route show table all", "ss -lntu",
    )  # fmt: skip
    return "\n\n".join(f"# {line}\n{_said(*line.split())}" for line in asked)


def _nft() -> str:
    asked = ("nft list table netdev locum", "nft list table inet locum", "nft list table ip6 locum", "nft list tables")
    return "\n\n".join(f"# {line}\n{_said(*line.split())}" for line in asked)


def _said(*command: str) -> str:
    """What a program says, or why it says nothing."""
    path = which(command[0]) or which(command[0], path=_FOLDERS)
    if path is None:
        return f"({command[0]} is not installed)"
    try:
        done = subprocess.run(
            [path, *command[1:]],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=COMMAND_TIMEOUT, check=False, env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"({command[0]} gave no answer in {COMMAND_TIMEOUT:.0f} s)"
    if done.returncode:
        return f"{done.stdout}({command[0]} ended with {done.returncode}: {done.stderr.strip()})"
    return done.stdout.rstrip()
