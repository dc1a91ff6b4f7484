"""The Debian package: built, looked into, and installed, upgraded, removed and purged on a machine with systemd.

That machine is a box of namespaces over this one's files (`tests/peers/box.py`); here nothing is installed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from importlib.metadata import distributions
from itertools import pairwise
from pathlib import Path

import pytest

from tests.peers.box import Box
from tests.peers.copier import Copier
from tests.peers.skips import ROOT, need_program, skip
from tests.peers.waiting import eventually

TOOLS_OF_THE_TESTS = {"pytest", "mypy", "ruff", "hypothesis", "datasette", "setuptools", "pyrad", "pip"}
INIT = (
    "locum", "init", "--name", "library", "--upstream-dialect", "radius", "--address", "192.0.2.1", "--secret-file",
    "-", "--networks", "127.0.0.0/8", "--delay", "60s", "--environment", "commercial",
)  # fmt: skip
MOST_EXPOSED = 2.0
WITHOUT_SERVICE = 10.0
"""Seconds at the most, at an upgrade."""


def build(folder: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [ROOT / "tools/build-deb", sys.executable, folder],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment},
    )  # fmt: skip


def built(building: subprocess.Popen[str]) -> Path:
    said, wrong = building.communicate(timeout=300)
    if building.returncode and re.search(
        r"Could not find a version|No matching distribution|No module named pip", wrong
    ):
        skip(f"the packages of the lock cannot be had here: {wrong.strip().splitlines()[-1]}")
    assert building.returncode == 0, wrong
    return Path(said.strip())


@pytest.fixture(scope="module")
def debs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The package, built twice at the same time: in another folder, with another home and in another time zone."""
    need_program("dpkg-deb", "dpkg")
    folder, other = tmp_path_factory.mktemp("deb"), tmp_path_factory.mktemp("again")
    when = str(int(time.time()))  # else that of the commit, where there is one
    first = build(folder, SOURCE_DATE_EPOCH=when)
    second = build(other, SOURCE_DATE_EPOCH=when, TZ="Asia/Kathmandu", HOME=str(other), TMPDIR=str(other))
    return built(first), built(second)


@pytest.fixture(scope="module")
def deb(debs: tuple[Path, Path]) -> Path:
    return debs[0]


@pytest.fixture(scope="module")
def unpacked(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    subprocess.run(["dpkg-deb", "-x", deb, folder], check=True, timeout=60)
    return folder


@pytest.fixture(scope="module")
def box(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    made = Box(tmp_path_factory.mktemp("box"))
    try:
        made.start()
        if made.run("dpkg", "-s", "locum", check=False).returncode == 0 or made.path("/var/lib/locum").exists():
            skip("a Locum is installed on this machine")
        made.path("/usr/sbin/policy-rc.d").unlink(missing_ok=True)
        shutil.copy(deb, made.path("/tmp/locum.deb"))
        done = made.run("dpkg", "-i", "/tmp/locum.deb", check=False)
        if "dependency problems" in done.stderr:
            skip(f"what the package depends on is not installed here: {done.stderr.strip().splitlines()[0]}")
        assert done.returncode == 0, done.stderr
        yield made
    finally:
        made.stop()


@pytest.fixture
def copier(box: Box) -> Iterator[Copier]:
    """A copier in the box; it knows the secret that `locum init` made."""
    secret = box.path("/etc/locum/copiers.secret").read_bytes().strip()
    with box.inside():
        made = Copier(1812, 1813, secret)
    yield made
    made.close()


def shown(box: Box, name: str) -> str:
    return box.run("systemctl", "show", "--value", f"--property={name}", "locum.service").stdout.strip()


def process_of(box: Box) -> str:
    """The service's process id in the box; it runs."""
    pid = shown(box, "MainPID")
    assert pid != "0", box.run("journalctl", "--quiet", "--output=cat", "--lines=20", "--unit=locum").stdout
    return pid


# --- what is in it ------------------------------------------------------------------------------------------------


def test_the_same_sources_give_the_same_bytes(debs: tuple[Path, Path]) -> None:
    first, second = debs
    assert first != second
    assert sha256(first.read_bytes()).digest() == sha256(second.read_bytes()).digest()


def test_it_has_the_program_and_not_the_tools_of_its_tests(unpacked: Path) -> None:
    (site,) = (unpacked / "opt/locum/lib").glob("python3.*/site-packages")
    there = {each.name for each in site.iterdir()}
    assert there >= {"appliance", "proxy", "protocols", "storage", "twisted", "construct", "msgspec", "click", "rich"}
    assert there & TOOLS_OF_THE_TESTS == set()
    names = {file.relative_to(unpacked).as_posix() for file in unpacked.rglob("*") if not file.is_dir()}
    assert names >= {
        "usr/lib/systemd/system/locum.service", "usr/lib/systemd/system/locum-inline.service",
        "usr/lib/systemd/system-generators/locum-generator", "usr/lib/sysusers.d/locum.conf",
        "usr/lib/tmpfiles.d/locum.conf", "usr/bin/locum", "usr/share/doc/locum/copyright",
        "usr/share/doc/locum/docs/install.md",
    }  # fmt: skip
    assert not [name for name in names if name.startswith(("etc/", "var/"))]


def test_its_copyright_file_has_the_terms_of_each_package_that_it_brings(unpacked: Path) -> None:
    paragraphs = [
        dict(re.findall(r"^([\w-]+): ((?:.*)(?:\n .*)*)", each, re.MULTILINE))
        for each in (unpacked / "usr/share/doc/locum/copyright").read_text().split("\n\n")
    ]
    opening, ours, *others = paragraphs
    assert opening["Format"] == "https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/"
    assert (ours["Files"], ours["License"].splitlines()[0]) == ("*", "MIT")
    assert {"GPL-2.0-only", "MIT"} <= set(opening["License"].split(" and "))
    assert re.search(r"scapy is under GPL-2\.0-only.*`locum discover`, `locum capture` and `locum decode` alone",
                     opening["Comment"], re.DOTALL)  # fmt: skip

    (site,) = (unpacked / "opt/locum/lib").glob("python3.*/site-packages")
    brought = {f"{each.metadata['Name']} {each.version}" for each in distributions(path=[str(site)])}
    assert {each["Comment"] for each in others} == brought
    (scapy,) = (each for each in others if each["Comment"].startswith("scapy "))
    assert scapy["License"].startswith("GPL-2.0-only\n")
    for each in others:
        terms = [line.strip() for line in each["License"].splitlines()[2:]]
        assert [line for line in terms if not (unpacked / line[1:]).is_file()] == []
        assert terms, each["Comment"]
        assert each["Copyright"].strip()
    named = {unpacked / line.strip().removesuffix("/*") for each in others for line in each["Files"].splitlines()}
    own = {site / name for name in ("protocols", "storage", "proxy", "appliance")}
    assert {each for each in site.iterdir() if each.name != "__pycache__"} == named | own


def test_nothing_in_it_knows_where_it_was_built(unpacked: Path) -> None:
    def names_it(file: Path) -> bool:
        content = file.read_bytes()
        return str(ROOT).encode() in content or b"/tmp/tmp." in content

    files = [file for file in unpacked.rglob("*") if file.is_file() and not file.is_symlink()]
    assert [file for file in files if names_it(file)] == []


def test_its_command_runs_from_any_place(unpacked: Path, tmp_path: Path) -> None:
    program = [unpacked / "opt/locum/bin/python3", "-I", unpacked / "opt/locum/bin/locum"]
    done = subprocess.run([*program, "--version"], capture_output=True, text=True, check=True, timeout=30, cwd=tmp_path)
    assert re.fullmatch(r"Locum \d+\.\d+\.\d+\n", done.stdout)
    done = subprocess.run(
        [*program, "check", "-c", tmp_path / "none.toml"], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 2
    assert "none.toml" in done.stderr


def test_its_control_file_says_what_it_needs(deb: Path) -> None:
    said = subprocess.run(["dpkg-deb", "-f", deb], capture_output=True, text=True, check=True, timeout=30).stdout
    assert re.search(r"^Depends: python3 \(>= 3\.1[1-3]\), python3 \(<< 3\.1[2-4]~\), ", said, re.MULTILINE)
    assert "@" not in said.replace("locum@localhost", "")


@pytest.mark.parametrize("in_line", [False, True], ids=["alone", "in line"])
def test_the_service_is_closed_up(unpacked: Path, tmp_path: Path, in_line: bool) -> None:
    need_program("systemd-analyze", "systemd")
    units = tmp_path / "usr/lib/systemd/system"
    units.mkdir(parents=True)
    shutil.copy(unpacked / "usr/lib/systemd/system/locum.service", units)
    if in_line:
        (units / "locum.service.d").mkdir()
        shutil.copy(unpacked / "usr/lib/locum/inline.conf", units / "locum.service.d")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--root={tmp_path}", "--no-pager", "locum.service"],
        capture_output=True, text=True, check=False, timeout=30, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    exposed = re.search(r"Overall exposure level for locum\.service: ([\d.]+)", done.stdout)
    assert exposed, done.stderr
    print(f"exposure {exposed[1]}")
    assert float(exposed[1]) <= MOST_EXPOSED


# --- a machine of its own: the tests go on where the one before ended ----------------------------------------------


def test_a_first_installation(box: Box) -> None:
    assert box.run("stat", "-c", "%U:%G %a", "/etc/locum", "/var/lib/locum").stdout.split() == [
        "root:locum", "750", "locum:locum", "750"
    ]  # fmt: skip
    assert box.run("systemctl", "is-enabled", "locum.service").stdout == "enabled\n"
    assert box.run("systemctl", "is-enabled", "locum-inline.service", check=False).stdout == "disabled\n"
    assert shown(box, "ActiveState") == "inactive"
    verified = box.run("systemd-analyze", "verify", "locum.service", "locum-inline.service")
    assert [line for line in verified.stderr.splitlines() if "locum" in line] == []

    box.run(*INIT, input="a secret of more than sixteen\n")
    checked = box.run("locum", "check", "--json", check=False)
    assert {each["what"]: each["level"] for each in json.loads(checked.stdout)}["state directory"] == "ok"
    assert "cannot use it" not in checked.stdout
    box.run("chmod", "600", "/etc/locum/locum.toml")
    refused = box.run("locum", "check", check=False)
    assert refused.returncode == 1
    assert "the service's user locum cannot use it: /etc/locum/locum.toml" in refused.stdout
    box.run("chmod", "640", "/etc/locum/locum.toml")
    box.run("systemctl", "start", "locum")
    assert shown(box, "ActiveState") == "active"
    assert json.loads(box.run("locum", "status", "--json").stdout)["name"] == "library"


def test_the_service_is_nobody_and_may_open_low_ports_only(box: Box) -> None:
    said = box.path("/proc").joinpath(process_of(box), "status").read_text()
    capabilities = dict(re.findall(r"^Cap(\w+):\s+(\w+)$", said, re.MULTILINE))
    assert {name: int(value, 16) for name, value in capabilities.items()} == dict.fromkeys(capabilities, 1 << 10)
    assert re.search(r"^Uid:\s+(\d+)", said, re.MULTILINE)[1] != "0"  # type: ignore[index]


def test_a_reload_is_told_to_systemd(box: Box) -> None:
    before = process_of(box)
    box.run("systemctl", "reload", "locum")
    eventually(lambda: shown(box, "SubState") == "running", within=10.0)
    assert process_of(box) == before
    log = box.run("journalctl", "--quiet", "--output=cat", "--unit=locum").stdout
    assert "the config was taken over" in log


def test_a_locum_that_stands_still_is_started_again(box: Box) -> None:
    box.put("/run/systemd/system/locum.service.d/test.conf", b"[Service]\nWatchdogSec=2\n")
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "restart", "locum")
    assert shown(box, "NRestarts") == "0"
    before = process_of(box)
    box.run("kill", "-STOP", before)
    eventually(lambda: shown(box, "NRestarts") == "1", within=20.0, saying="systemd has started it again", every=0.1)
    eventually(lambda: shown(box, "ActiveState") == "active", within=20.0, every=0.1)
    assert process_of(box) != before
    log = box.run("journalctl", "--quiet", "--output=cat", "--unit=locum").stdout
    assert "Watchdog timeout" in log
    assert "Fatal Python error: Aborted" in log
    box.path("/run/systemd/system/locum.service.d/test.conf").unlink()
    box.run("systemctl", "daemon-reload")


def test_the_doctor_says_what_went_wrong_and_nothing_of_people_and_no_secret(box: Box, copier: Copier) -> None:
    card, erased, code = "04A1C3F4", "0B5C2D77", "314159"
    assert copier.job("S0", "J0", card=card)
    copier.swipe(erased, password=b"a password", wait=0.1)
    box.run("locum", "unlock-code", "set", input=f"{code}\n")
    box.run("locum", "drill", "start", copier.name, "--for", "10m", "--reason", "for Carla Diaz")
    box.run("locum", "drill", "stop", copier.name)
    box.run("locum", "ledger", "erase-card", erased, "--yes")
    config = box.path("/etc/locum/locum.toml")
    before = config.read_text()
    config.write_text(f'{before}\ntoken = "misplaced"\n')
    assert box.run("systemctl", "restart", "locum", check=False).returncode
    config.write_text(f'{before}\n[inline]\nmode = "bridge"\ncopier_side = "eth7"\nserver_side = "eth8"\n')
    assert box.run("systemctl", "start", "locum-inline", check=False).returncode
    box.run("systemctl", "stop", "locum-inline")
    config.write_text(before)
    box.run("systemctl", "stop", "locum")
    with box.inside(), socket.socket(type=socket.SOCK_DGRAM) as taking:
        taking.bind(("0.0.0.0", 1813))
        assert box.run("systemctl", "start", "locum", check=False).returncode
    box.run("systemctl", "reset-failed", "locum")
    box.run("systemctl", "start", "locum")

    box.run("locum", "doctor", "--output", "/tmp/doctor.tar.gz")
    with tarfile.open(box.path("/tmp/doctor.tar.gz")) as archive:
        found = {}
        for member in archive.getmembers():
            content = archive.extractfile(member)
            assert content is not None
            found[member.name.removeprefix("locum-doctor/")] = content.read().decode()
    for said in (
        r"info ready name=library",
        r"^\S+Z systemd: locum\.service: Watchdog timeout",
        r"^\S+Z locum: .*1813",
        r"^\S+Z locum-inline: .*eth7",
        r"warning a drill begins|drill",
    ):
        assert re.search(said, found["log.txt"], re.MULTILINE), said
    assert "ActiveState=active" in found["service.txt"]
    assert "inet 127.0.0.1" in found["network.txt"]
    assert copier.name in found["devices.json"]
    secrets = [box.path(f"/etc/locum/{name}").read_text().strip() for name in ("hq.secret", "copiers.secret")]
    people = [card, erased, code, "Carla", "a password", "misplaced", "uid 0", *secrets]
    whole = "\n".join(found.values())
    assert [each for each in people if each.lower() in whole.lower()] == []


def diverts(box: Box) -> bool:
    return bool(json.loads(box.run("locum", "inline", "status", "--json").stdout)["diverting"])


@contextmanager
def cables(box: Box) -> Iterator[None]:
    """The box between a copier and a server, by cables, and a configuration that says so; at the end as it was."""
    config = box.path("/etc/locum/locum.toml")
    before = config.read_text()
    for port, end, address in (("eth1", "copier", "10.9.0.1/24"), ("eth2", "server", "10.9.0.2/24")):
        box.run("ip", "netns", "add", end)
        box.run("ip", "link", "add", port, "type", "veth", "peer", "name", "net0", "netns", end)
        box.run("ip", "-n", end, "address", "add", address, "dev", "net0")
        box.run("ip", "-n", end, "link", "set", "net0", "up")
    try:
        config.write_text(f'{before}\n[inline]\nmode = "bridge"\ncopier_side = "eth1"\nserver_side = "eth2"\n')
        planned = box.run("locum", "inline", "plan", check=False)
        if "this kernel cannot do" in planned.stdout + planned.stderr:
            skip("this kernel cannot do what the rules in line need")
        box.run("systemctl", "daemon-reload")
        yield
    finally:
        box.run("systemctl", "stop", "locum-inline")
        box.run("locum", "inline", "down", "--all", check=False)
        config.write_text(before)
        box.run("ip", "netns", "delete", "copier")
        box.run("ip", "netns", "delete", "server")
        box.run("systemctl", "daemon-reload")
        box.run("systemctl", "restart", "locum")


def test_in_line_the_services_get_what_that_takes_and_only_then(box: Box) -> None:
    assert shown(box, "AmbientCapabilities") == "cap_net_bind_service"
    with cables(box):
        assert set(shown(box, "AmbientCapabilities").split()) == {
            "cap_net_admin", "cap_net_bind_service", "cap_net_raw"
        }  # fmt: skip
        assert "AF_PACKET" in shown(box, "RestrictAddressFamilies")
        box.run("systemctl", "start", "locum-inline")
        assert not diverts(box)
        box.run("systemctl", "restart", "locum")
        eventually(lambda: diverts(box), within=10.0, saying="the kernel diverts")
        enable = "nothing passes when this machine starts anew: systemctl enable locum-inline"
        assert enable in box.run("locum", "check", check=False).stdout
        box.run("systemctl", "enable", "locum-inline")
        assert enable not in box.run("locum", "check", check=False).stdout
        box.run("systemctl", "disable", "locum-inline")
        box.run("systemctl", "stop", "locum")
        eventually(lambda: not diverts(box), within=10.0, saying="the kernel passes everything")
    assert shown(box, "AmbientCapabilities") == "cap_net_bind_service"


@contextmanager
def passing(box: Box) -> Iterator[None]:
    """The copier asks the server a hundred times a second; every question is answered."""
    box.put("/run/asked", b"")
    asked = box.path("/run/asked")
    asking = "exec ip netns exec copier ping -n -i 0.01 10.9.0.2 >/run/asked"
    box.run("systemd-run", "--unit=asking", "--collect", "sh", "-c", asking)
    eventually(lambda: "icmp_seq=5 " in asked.read_text(), saying="the line passes")
    yield
    box.run("systemctl", "kill", "--signal=INT", "asking")
    counts = eventually(lambda: re.findall(r"(\d+) packets transmitted, (\d+) received", asked.read_text()))
    print(f"asked and answered: {counts}")
    ((sent, came),) = counts
    assert sent == came


def test_nftables_flushes_all_rules_and_locums_are_there_again_with_a_plain_bridge_in_between(box: Box) -> None:
    watch = (
        b"[Service]\nExecStartPre=-sh -c 'nft list tables >/run/between; ls /sys/class/net/locum0/brif >>/run/between'"
    )
    box.put("/run/systemd/system/nftables.service.d/test.conf", watch)
    with cables(box):
        box.run("systemctl", "start", "nftables")
        box.run("systemctl", "start", "locum-inline")
        box.run("systemctl", "restart", "locum")
        eventually(lambda: diverts(box), within=10.0, saying="the kernel diverts")
        with passing(box):
            box.run("systemctl", "restart", "nftables")
            eventually(lambda: diverts(box), within=10.0, saying="the kernel diverts after a restart")
            assert box.path("/run/between").read_text().split() == ["eth1", "eth2"]
            box.run("systemctl", "reload", "nftables")
            eventually(lambda: diverts(box), within=10.0, saying="the kernel diverts after a reload")
            assert "table inet filter" in box.run("nft", "list", "tables").stdout
            box.run("systemctl", "stop", "nftables")
            assert not diverts(box)
        box.run("systemctl", "start", "locum-inline")
        eventually(lambda: diverts(box), within=10.0, saying="the kernel diverts without nftables.service")


def later(box: Box, deb: Path) -> str:
    """The package once more, as a version that comes after this one; its path in the box."""
    folder = deb.parent / "later"
    subprocess.run(["dpkg-deb", "-R", deb, folder], check=True, timeout=60)
    control = folder / "DEBIAN/control"
    control.write_text(re.sub(r"^(Version: .*)$", r"\1+later", control.read_text(), flags=re.MULTILINE))
    made = deb.parent / "later.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Znone", "-b", folder, made],
        check=True, timeout=60, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    shutil.copy(made, box.path("/tmp/later.deb"))
    shutil.rmtree(folder)
    return "/tmp/later.deb"


def jobs(box: Box) -> int:
    told = json.loads(box.run("locum", "status", "--json").stdout)
    return int(told["ledger"]["jobs"])


def test_an_upgrade_keeps_config_and_ledger_and_starts_what_ran(box: Box, deb: Path, copier: Copier) -> None:
    config, pid = box.path("/etc/locum/locum.toml").read_bytes(), process_of(box)
    package, before = later(box, deb), jobs(box)
    answered = [time.monotonic()]
    with ThreadPoolExecutor(1) as beside:
        upgrade = beside.submit(box.run, "dpkg", "-i", package)
        while not upgrade.done():
            assert copier.job("S1", f"J{len(answered)}", wait=WITHOUT_SERVICE, resend_every=0.02)
            answered.append(time.monotonic())
        upgrade.result()
    longest = max(after - before for before, after in pairwise(answered))
    print(f"without an answer for {longest:.2f} s at the longest")
    assert box.path("/etc/locum/locum.toml").read_bytes() == config
    assert shown(box, "ActiveState") == "active"
    assert process_of(box) != pid
    assert jobs(box) == before + len(answered) - 1
    assert box.run("locum", "--version").stdout.startswith("Locum ")
    assert box.run("locum", "ledger", "verify", "/var/lib/locum/ledger.db", check=False).returncode == 0

    box.run("systemctl", "stop", "locum")
    box.run("dpkg", "-i", package)
    assert shown(box, "ActiveState") == "inactive"
    box.run("systemctl", "start", "locum")


def test_removal_leaves_config_and_ledger(box: Box) -> None:
    pid = process_of(box)
    box.run("dpkg", "-r", "locum")
    assert not box.path(f"/proc/{pid}").exists()
    assert not box.path("/opt/locum").exists()
    assert box.path("/etc/locum/locum.toml").exists()
    assert box.path("/var/lib/locum/ledger.db").exists()


def test_installed_again_it_runs_as_before(box: Box) -> None:
    box.run("dpkg", "-i", "/tmp/locum.deb")
    assert shown(box, "ActiveState") == "active"
    states = box.run("systemctl", "is-enabled", "locum.service", "locum-inline.service", check=False).stdout.split()
    assert states == ["enabled", "disabled"]
    box.run("dpkg", "-r", "locum")


def test_purge_takes_the_ledger_only_where_somebody_says_so(box: Box) -> None:
    box.run("dpkg", "-P", "locum")
    assert not box.path("/etc/locum").exists()
    assert box.path("/var/lib/locum/ledger.db").exists()
    assert box.run("id", "locum").returncode == 0

    box.run("dpkg", "-i", "/tmp/locum.deb")
    box.run("debconf-set-selections", input="locum locum/remove-ledger boolean true\n")
    box.run("dpkg", "-P", "locum")
    assert not box.path("/var/lib/locum").exists()


def test_a_checkout_in_its_place_is_left_alone(box: Box) -> None:
    box.put("/opt/locum/pyproject.toml", b"")
    done = box.run("dpkg", "-i", "/tmp/locum.deb", check=False)
    assert done.returncode != 0
    assert "has a checkout of the source" in done.stderr
    assert box.path("/opt/locum/pyproject.toml").exists()
