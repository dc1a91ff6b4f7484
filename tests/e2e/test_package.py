"""The Debian package: built, looked into, and installed, upgraded, removed and purged on a machine with systemd.

That machine is a box of namespaces over this one's files (`tests/peers/box.py`); here nothing is installed.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.box import Box
from tests.peers.skips import ROOT, need_program, skip
from tests.peers.waiting import eventually

TOOLS_OF_THE_TESTS = {"pytest", "mypy", "ruff", "hypothesis", "datasette", "setuptools", "pyrad", "pip"}
INIT = (
    "locum", "init", "--name", "library", "--upstream-dialect", "radius", "--address", "127.0.0.1", "--secret-file",
    "-", "--networks", "127.0.0.0/8", "--delay", "60s", "--environment", "commercial",
)  # fmt: skip
MOST_EXPOSED = 2.0


@pytest.fixture(scope="module")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_program("dpkg-deb", "dpkg")
    folder = tmp_path_factory.mktemp("deb")
    done = subprocess.run(
        [ROOT / "tools/build-deb", sys.executable, folder], capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode and re.search(
        r"Could not find a version|No matching distribution|No module named pip", done.stderr
    ):
        skip(f"the packages of the lock cannot be had here: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


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


def shown(box: Box, name: str) -> str:
    return box.run("systemctl", "show", "--value", f"--property={name}", "locum.service").stdout.strip()


def process_of(box: Box) -> str:
    """The service's process id in the box; it runs."""
    pid = shown(box, "MainPID")
    assert pid != "0", box.run("journalctl", "--quiet", "--output=cat", "--lines=20", "--unit=locum").stdout
    return pid


# --- what is in it ------------------------------------------------------------------------------------------------


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


def test_the_doctor_finds_the_log_and_no_secret(box: Box) -> None:
    box.run("locum", "doctor", "--output", "/tmp/doctor.tar.gz")
    with tarfile.open(box.path("/tmp/doctor.tar.gz")) as archive:
        found = {}
        for member in archive.getmembers():
            content = archive.extractfile(member)
            assert content is not None
            found[member.name.removeprefix("locum-doctor/")] = content.read().decode()
    assert "info ready name=library" in found["log.txt"]
    assert "Watchdog timeout" in found["log.txt"]
    assert "ActiveState=active" in found["service.txt"]
    assert "inet 127.0.0.1" in found["network.txt"]
    secrets = [box.path(f"/etc/locum/{name}").read_text().strip() for name in ("hq.secret", "copiers.secret")]
    whole = "\n".join(found.values())
    assert [each for each in secrets if each in whole] == []


def diverts(box: Box) -> bool:
    return bool(json.loads(box.run("locum", "inline", "status", "--json").stdout)["diverting"])


def test_in_line_the_services_get_what_that_takes_and_only_then(box: Box) -> None:
    config = box.path("/etc/locum/locum.toml")
    before = config.read_text()
    assert shown(box, "AmbientCapabilities") == "cap_net_bind_service"
    for ours, theirs in (("eth1", "copier"), ("eth2", "server")):
        box.run("ip", "link", "add", ours, "type", "veth", "peer", "name", theirs)
        box.run("ip", "link", "set", theirs, "up")
    try:
        config.write_text(f'{before}\n[inline]\nmode = "bridge"\ncopier_side = "eth1"\nserver_side = "eth2"\n')
        planned = box.run("locum", "inline", "plan", check=False)
        if "this kernel cannot do" in planned.stdout + planned.stderr:
            skip("this kernel cannot do what the rules in line need")
        box.run("systemctl", "daemon-reload")
        assert set(shown(box, "AmbientCapabilities").split()) == {
            "cap_net_admin", "cap_net_bind_service", "cap_net_raw"
        }  # fmt: skip
        assert "AF_PACKET" in shown(box, "RestrictAddressFamilies")
        box.run("systemctl", "start", "locum-inline")
        assert not diverts(box)
        box.run("systemctl", "restart", "locum")
        eventually(lambda: diverts(box), within=10.0, saying="the kernel diverts")
        box.run("systemctl", "stop", "locum")
        eventually(lambda: not diverts(box), within=10.0, saying="the kernel passes everything")
    finally:
        box.run("systemctl", "stop", "locum-inline")
        box.run("locum", "inline", "down", "--all", check=False)
        config.write_text(before)
        box.run("systemctl", "daemon-reload")
        box.run("systemctl", "restart", "locum")
    assert shown(box, "AmbientCapabilities") == "cap_net_bind_service"


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


def test_an_upgrade_keeps_config_and_ledger_and_starts_what_ran(box: Box, deb: Path) -> None:
    config, pid = box.path("/etc/locum/locum.toml").read_bytes(), process_of(box)
    entries = json.loads(box.run("locum", "status", "--json").stdout)["ledger"]["entries"]
    package = later(box, deb)
    box.run("dpkg", "-i", package)
    assert box.path("/etc/locum/locum.toml").read_bytes() == config
    assert shown(box, "ActiveState") == "active"
    assert process_of(box) != pid
    assert json.loads(box.run("locum", "status", "--json").stdout)["ledger"]["entries"] > entries
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
