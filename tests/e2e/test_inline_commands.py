"""`locum inline`: into the line and out of it, on real interfaces in network namespaces; no appliance runs here."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance.config import InlineConfig
from appliance.inline.diverted import Diverted
from appliance.inline.rules import MOST_FLOWS, bridge_rules
from tests.peers.netns import SERVER, SERVER6, Wire, wire
from tests.peers.skips import ROOT, need_program
from tests.peers.waiting import eventually

CONFIG = """\
[appliance]
state_dir = "state"

[inline]
mode = "{mode}"
copier_side = "p0"
server_side = "p1"

[[upstream]]
name = "hq"
dialect = "radius"
address = "10.9.0.2"
secret = "between us and hq"

[[listen]]
dialect = "radius"
bind = "0.0.0.0"
upstream = "hq"
clients = [{{ network = "10.9.0.0/24", secret = "copiers" }}]
"""


FLOWS = [Diverted(4, "udp", (1812,), ("10.9.0.0/24",), ("10.9.0.2",))]


class Box:
    """The appliance's namespace with a configuration, to run `locum` in."""

    def __init__(self, line: Wire, folder: Path, mode: str = "bridge") -> None:
        self.line = line
        self.state = folder / "state"
        self.state.mkdir(mode=0o750)
        self.config = folder / "locum.toml"
        self.config.write_text(CONFIG.format(mode=mode))
        self.config.chmod(0o640)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "appliance", *arguments, "-c", str(self.config)]

    def locum(self, *arguments: str, stdin: str = "", path: str = "") -> subprocess.CompletedProcess[str]:
        env = ["env", f"PATH={path}:/usr/sbin:/usr/bin:/sbin:/bin"] if path else []
        command = [*env, *self.command(*arguments)]
        return self.line.run(self.line.appliance, command, cwd=ROOT, input=stdin, check=False)

    def as_found(self) -> dict[str, str]:
        """All that Locum may change of this machine's network."""
        # Routes of IPv6 come and go by themselves in the main table.
        tables = [[v, "route", "show", "table", name] for v in ("-4", "-6") for name in ("19567", "19568")]
        tables.append(["-4", "route"])
        told = {
            "links": self.line.ip(self.line.appliance, "-j", "link"),
            "rules": self.line.ip(self.line.appliance, "rule") + self.line.ip(self.line.appliance, "-6", "rule"),
            "routes": "".join(self.line.run(self.line.appliance, ["ip", *each], check=False).stdout for each in tables),
            "nft": self.line.run(self.line.appliance, ["nft", "-s", "list", "ruleset"]).stdout,
        }
        # What passes is learned meanwhile.
        told["nft"] = re.sub(r"\n\s*elements = \{[^}]*\}", "", told["nft"])
        links = [(each["ifname"], each.get("master"), "UP" in each["flags"]) for each in json.loads(told["links"])]
        told["links"] = str(sorted(links, key=str))
        for key in ("net/ipv4/fwmark_reflect", "net/bridge/bridge-nf-call-iptables", "net/ipv6/conf/p0/disable_ipv6"):
            told[key] = self.line.run(self.line.appliance, ["sh", "-c", f"cat /proc/sys/{key} || true"]).stdout
        return told

    def passes(self, address: str = SERVER) -> bool:
        """Whether a ping goes from the copier to the server."""
        ping = ["ping", "-c", "1", "-W", "1", address]
        return self.line.run(self.line.copier, ping, check=False).returncode == 0


@pytest.fixture
def line() -> Iterator[Wire]:
    need_program("nft", "nftables")
    need_program("ping", "iputils-ping")
    with wire() as made:
        yield made


@pytest.fixture
def box(line: Wire, tmp_path: Path) -> Box:
    return Box(line, tmp_path)


def test_plan_prints_every_step_and_changes_nothing(box: Box) -> None:
    before = box.as_found()
    done = box.locum("inline", "plan")
    assert (done.returncode, done.stderr) == (0, "")
    for part in ("ip link add locum0", "ip link set p0 master locum0", "sysctl -w net/ipv4/conf/locum0", "nft -f -"):
        assert part in done.stdout
    assert box.as_found() == before
    assert list(box.state.iterdir()) == []


def test_up_joins_the_two_sides_and_down_leaves_a_plain_bridge(box: Box) -> None:
    before = box.as_found()
    assert not box.passes()
    done = box.locum("inline", "up")
    assert (done.returncode, done.stderr) == (0, "")
    eventually(box.passes, 5)
    assert box.passes(SERVER6)
    told = json.loads(box.locum("inline", "status", "--json").stdout)
    assert (told["standing"], told["rules"], told["diverting"]) == (True, True, False)
    done = box.locum("inline", "down")
    assert "a plain bridge passes everything" in done.stdout
    assert box.passes()
    left = box.as_found()
    assert [left[key] for key in ("rules", "nft")] == [before[key] for key in ("rules", "nft")]
    assert box.locum("inline", "up").returncode == 0, "from the plain bridge into the line again"
    assert "nothing of it is left" in box.locum("inline", "down", "--all").stdout
    assert box.as_found() == before
    assert list(box.state.iterdir()) == []
    assert "there is nothing to take away" in box.locum("inline", "down", "--all").stdout


def test_check_does_not_ask_the_server_from_a_bridge_that_has_no_way_to_it(box: Box) -> None:
    assert box.locum("inline", "up").returncode == 0
    done = box.locum("check")
    assert "not tried: a bridge has no address of its own" in done.stdout
    assert "error" not in done.stdout
    assert done.returncode == 0
    box.line.ip(box.line.appliance, "link", "set", "lo", "up")
    box.line.ip(box.line.appliance, "route", "add", "10.9.0.2", "dev", "lo")  # as an interface for its care would be
    done = box.locum("check")
    assert "not tried" not in done.stdout
    assert "no address of it answered for logins" in done.stdout
    assert done.returncode == 1


def test_a_listener_to_which_nothing_can_be_diverted_is_said(box: Box) -> None:
    other = '[[listen]]\ndialect = "radius"\nbind = "::"\nupstream = "hq"\n'
    box.config.write_text(
        box.config.read_text() + other + 'clients = [{ network = "fd00:9::/64", secret = "copiers" }]\n'
    )
    done = box.locum("inline", "plan")
    assert done.returncode == 0
    assert '[[listen]] bind = "::": nothing is diverted to it' in done.stderr


def test_what_there_is_no_room_to_remember_passes_and_is_counted(box: Box) -> None:
    """The rules as they are, but for the number of flows; no appliance runs, and the kernel is told that one does."""
    assert box.locum("inline", "up").returncode == 0
    line = box.line
    told = json.loads(line.run(line.appliance, ["ip", "-j", "link", "show", "locum0"]).stdout)
    text = bridge_rules(InlineConfig("bridge", "p0", "p1", "locum0"), FLOWS, told[0]["address"], tags=False)
    text += "add element netdev locum alive { ip timeout 60s }\n"
    text += "add element netdev locum flows4 { udp . 10.9.0.1 . 5 . 10.9.0.2 . 1812 timeout 60s }\n"
    line.run(line.appliance, ["nft", "-f", "-"], input=text.replace(f"size {MOST_FLOWS}", "size 1"))
    with line.inside(line.copier):
        for _ in range(3):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
                one.sendto(b"to Locum, or to the server", (SERVER, 1812))
    told = json.loads(box.locum("inline", "status", "--json").stdout)
    assert (told["flows"], told["to_server"]["packets"], told["no_room"]["packets"]) == (1, 0, 3)
    assert "too many flows to remember another: 3 packets" in box.locum("inline", "status").stdout


def test_up_again_takes_over_the_rules_of_a_changed_configuration(box: Box) -> None:
    box.locum("inline", "up")
    box.config.write_text(box.config.read_text().replace('network = "10.9.0.0/24"', 'network = "10.9.0.1"'))
    assert box.locum("inline", "up").returncode == 0
    assert "ip saddr 10.9.0.1 " in box.as_found()["nft"]
    box.config.write_text(box.config.read_text().replace('server_side = "p1"', 'server_side = "p1"\nbridge = "br9"'))
    done = box.locum("inline", "up")
    assert done.returncode == 1
    assert "Locum stands in line in another way" in done.stderr


def test_a_step_that_fails_undoes_those_before_it(box: Box, tmp_path: Path) -> None:
    """nft tries the rules and says yes, and refuses them when they are to be loaded."""
    before = box.as_found()
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "nft").write_text(
        '#!/bin/sh\nif [ "$1" = -f ]; then echo no room >&2; exit 1; fi\nexec /usr/sbin/nft "$@"\n'
    )
    (tools / "nft").chmod(0o755)
    done = box.locum("inline", "up", path=str(tools))
    assert done.returncode == 1
    assert "nft refuses: no room" in done.stderr
    left = box.as_found()
    assert left == before
    # Taking back had no rules to take away, but could not ask: what was done stays known, and down goes on from there.
    assert box.locum("inline", "down", "--all").returncode == 0
    assert list(box.state.iterdir()) == []


def test_up_on_a_full_disk_changes_nothing_and_says_so(box: Box) -> None:
    before = box.as_found()
    full = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(box.state)]
    fill = f"head -c 4096 /dev/zero >{box.state}/filled"
    command = " && ".join([" ".join(full), fill, " ".join(box.command("inline", "up"))])
    done = box.line.run(box.line.appliance, ["unshare", "-m", "sh", "-c", command], cwd=ROOT, check=False)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert box.as_found() == before


def test_up_that_was_killed_in_the_middle_is_taken_back_by_down(box: Box) -> None:
    before = box.as_found()
    process = box.line.popen(box.line.appliance, box.command("inline", "up"), cwd=ROOT)
    eventually(lambda: (box.state / "inline.json").exists(), 10)
    process.send_signal(signal.SIGKILL)
    process.wait(5)
    assert box.locum("inline", "down", "--all").returncode == 0
    assert box.as_found() == before


@pytest.mark.parametrize(("typed", "stays"), [("yes\n", True), ("no\n", False), ("", False)])
def test_up_that_nobody_confirms_is_undone(box: Box, typed: str, stays: bool) -> None:
    before = box.as_found()
    done = box.locum("inline", "up", "--confirm", stdin=typed)
    assert done.returncode == (0 if stays else 1)
    assert (box.as_found() == before) is not stays


IN_THE_WAY: dict[str, tuple[list[str], tuple[str, str] | None, str]] = {
    "no such interface": ([], ('"p1"', '"eth7"'), "there is no interface eth7; there are: p0, p1"),
    "an address on it": (["addr add 10.9.0.9/24 dev p0"], None, "p0 has the address 10.9.0.9/24"),
    "in a bridge of others": (["link add br7 type bridge", "link set p0 master br7"], None, "p0 is in br7 already"),
    "the bridge's name is taken": (["link add locum0 type bridge"], None, "there is an interface locum0 already"),
    "a routing table in use": (["route add default dev p0 table 19567"], None, "routing table 19567 is in use"),
    "no Ethernet": ([], ('"p1"', '"lo"'), "lo is no Ethernet interface"),
}


@pytest.mark.parametrize("case", IN_THE_WAY)
def test_what_is_in_the_way_is_said_before_anything_is_touched(box: Box, case: str) -> None:
    commands, change, said = IN_THE_WAY[case]
    box.line.ip(box.line.appliance, "link", "set", "p0", "up")
    for each in commands:
        box.line.ip(box.line.appliance, *each.split())
    if change:
        box.config.write_text(box.config.read_text().replace(*change))
    before = box.as_found()
    everything = [["inline", "plan"], ["inline", "up"], ["check"]]
    for arguments in everything if case == "an address on it" else everything[:1]:
        done = box.locum(*arguments)
        assert done.returncode == 1
        assert said in done.stderr + done.stdout
    assert box.as_found() == before
    assert list(box.state.iterdir()) == []


def test_a_router_must_forward_and_gets_rules_alone(line: Wire, tmp_path: Path) -> None:
    box = Box(line, tmp_path, "router")
    line.run(line.appliance, ["sysctl", "-qw", "net.ipv4.ip_forward=0"])
    assert "this machine does not forward" in box.locum("inline", "up").stderr
    line.run(line.appliance, ["sysctl", "-qw", "net.ipv4.ip_forward=1"])
    before = box.as_found()
    assert box.locum("inline", "up").returncode == 0
    assert box.as_found()["links"] == before["links"]
    assert "tproxy ip to :1812" in box.as_found()["nft"]
    assert box.locum("inline", "down").returncode == 0
    assert box.as_found() == before


def test_nobody_but_root_may_change_the_network(box: Box) -> None:
    command = ["setpriv", "--reuid", "65534", "--clear-groups", *box.command("inline", "up")]
    done = box.line.run(box.line.appliance, command, cwd="/", check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


def test_what_others_took_away_is_said_and_put_back_by_up(box: Box) -> None:
    assert box.locum("inline", "up").returncode == 0
    as_it_stood = box.as_found()
    for arguments in (
        ["rule", "del", "pref", "19"],
        ["-6", "rule", "del", "pref", "21"],
        ["link", "set", "p1", "nomaster"],
    ):
        box.line.ip(box.line.appliance, *arguments)
    told = json.loads(box.locum("inline", "status", "--json").stdout)["lost"]
    assert [each.split(" add ")[0].split(" master ")[0] for each in told] == [
        "ip link set p1",
        "ip -4 rule",
        "ip -6 rule",
    ]
    assert (
        "taken away by others: ip -4 rule add priority 19"
        in box.locum("check").stdout + box.locum("inline", "status").stdout
    )
    assert box.locum("inline", "up").returncode == 0
    assert box.as_found() == as_it_stood
    assert json.loads(box.locum("inline", "status", "--json").stdout)["lost"] == []


def test_a_step_that_a_killed_up_did_not_take_is_taken_by_the_next(box: Box) -> None:
    """It is in the note, for that is written first."""
    assert box.locum("inline", "up").returncode == 0
    as_it_stood = box.as_found()
    box.line.ip(box.line.appliance, "route", "flush", "table", "19567")
    assert box.locum("inline", "up").returncode == 0
    assert box.as_found() == as_it_stood


@pytest.mark.parametrize("how", ["another's", "a link", "writable"])
def test_nothing_is_done_by_a_note_that_root_did_not_write(box: Box, tmp_path: Path, how: str) -> None:
    """The directory belongs to the service, and what is done by the note is done as root."""
    assert box.locum("inline", "up").returncode == 0
    note = box.state / "inline.json"
    if how == "another's":
        os.chown(note, 65534, 65534)
    elif how == "writable":
        note.chmod(0o666)
    else:
        note.rename(tmp_path / "elsewhere")
        note.symlink_to(tmp_path / "elsewhere")
    before = box.as_found()
    done = box.locum("inline", "down", "--all")
    assert (done.returncode, done.stdout) == (1, "")
    assert "inline.json" in done.stderr
    assert box.as_found() == before


def test_the_note_is_not_written_through_a_link(box: Box, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("as it was")
    (box.state / "inline.json.new").symlink_to(victim)
    assert box.locum("inline", "up").returncode == 0
    assert victim.read_text() == "as it was"


def test_a_table_of_that_name_that_is_not_locums_is_left_alone(box: Box) -> None:
    box.line.run(box.line.appliance, ["nft", "add table inet locum"])
    before = box.as_found()
    done = box.locum("inline", "up")
    assert done.returncode == 1
    assert "there is a table inet locum that Locum did not make" in done.stderr
    assert box.as_found() == before


def test_down_needs_no_more_of_the_configuration_than_where_the_state_is(box: Box) -> None:
    before = box.as_found()
    assert box.locum("inline", "up").returncode == 0
    box.config.write_text(box.config.read_text() + "\ntypo = 1\n")
    assert box.locum("inline", "down", "--all").returncode == 0
    assert box.as_found() == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT])
@pytest.mark.parametrize("stood", [False, True], ids=["from nothing", "from another way of standing"])
def test_up_that_is_stopped_while_it_asks_is_undone(box: Box, number: int, stood: bool) -> None:
    if stood:
        assert box.locum("inline", "up").returncode == 0
        box.config.write_text(
            box.config.read_text().replace("10.9.0.0/24", "10.9.0.1/32").replace("10.0.0.0/8", "10.9.0.1/32")
        )
    before = box.as_found()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = box.line.popen(box.line.appliance, box.command("inline", "up", "--confirm"), cwd=ROOT, **pipes)
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(b"ye")
    process.stdin.flush()
    os.set_blocking(process.stderr.fileno(), False)
    eventually(lambda: b"Type yes" in (process.stderr.peek() if process.stderr else b""), 10)
    process.send_signal(number)
    said = process.communicate(timeout=20)[1]
    assert process.returncode == 1
    assert b"everything is undone" in said or b"all is as it was before" in said
    assert box.as_found() == before


def test_only_one_goes_into_the_line_at_a_time(box: Box) -> None:
    with _locked(box.state):
        done = box.locum("inline", "up")
    assert done.returncode == 1
    assert "another 'locum inline up' or 'down' is at work" in done.stderr


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)
