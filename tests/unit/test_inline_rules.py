"""Which traffic is Locum's by the configuration, and that the kernel takes the rules made of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from appliance.config import Config, InlineConfig
from appliance.inline.diverted import Diverted, NotResolved, diverted
from appliance.inline.rules import bridge_rules, router_rules, without
from tests.peers.skips import need_program, need_root
from tests.unit.configs import loaded

BRIDGE = InlineConfig("bridge", "c0", "s0", "locum0")
ROUTER = InlineConfig("router", "c0", "s0")
MAC = "02:00:00:00:00:0b"
CONFIG = """\
[[upstream]]
name = "hq"
dialect = "radius"
address = ["10.0.0.5", "fd00::5"]
secret = "between us and hq"

[[upstream]]
name = "print"
dialect = "terminal"
address = ["10.0.0.7", "10.0.0.8"]

[[listen]]
dialect = "radius"
bind = "0.0.0.0"
upstream = "hq"
clients = [{ network = "10.7.0.0/16", secret = "a" }, { network = "fd00:7::/64", secret = "c" }]

[[listen]]
dialect = "radius"
bind = "::"
upstream = "hq"
auth_port = 1645
accounting_port = 1646
clients = [{ network = "fd00:7::/64", secret = "c" }]

[[listen]]
dialect = "terminal"
bind = "0.0.0.0"
upstream = "print"
"""
FLOWS = [
    Diverted(4, "udp", (1812, 1813), ("10.7.0.0/16",), ("10.0.0.5",)),
    Diverted(6, "udp", (1645, 1646), ("fd00:7::/64",), ("fd00::5",)),
    Diverted(4, "tcp", (9790,), ("0.0.0.0/0",), ("10.0.0.7", "10.0.0.8")),
]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return loaded(tmp_path, CONFIG)


def test_what_is_for_a_listeners_servers_from_its_clients_is_locums(config: Config) -> None:
    """Each listener stands for its IP version alone."""
    assert diverted(config) == FLOWS


def test_a_server_without_an_address_is_said_with_its_name(tmp_path: Path) -> None:
    text = CONFIG.replace('"10.0.0.7"', '"no-such-host.invalid"')
    with pytest.raises(NotResolved, match=r"no-such-host\.invalid does not resolve"):
        diverted(loaded(tmp_path, text))


def test_a_port_of_another_machine_is_in_no_rule() -> None:
    text = bridge_rules(BRIDGE, FLOWS[:1], MAC)
    takes = [line for line in text.splitlines() if "goto take4" in line and "@flows" not in line]
    assert takes == [
        "    ip saddr { 10.7.0.0/16 } ip daddr { 10.0.0.5 } udp dport { 1812, 1813 } goto take4",
    ]
    assert "ip6 daddr {" not in text


def test_of_tcp_only_what_begins_here_is_taken() -> None:
    for text in (bridge_rules(BRIDGE, FLOWS, MAC), router_rules(ROUTER, FLOWS)):
        to_listeners = [line for line in text.splitlines() if "tcp dport" in line and "!=" not in line]
        begins = [line for line in to_listeners if "tcp flags & (syn | ack) == syn" in line]
        assert begins
        goes_on = "meta l4proto . ip saddr . th sport . ip daddr . th dport @flows4"
        assert all(goes_on in line for line in to_listeners if line not in begins)


def test_nothing_is_taken_before_the_kernel_knows_that_the_appliance_works() -> None:
    gate = "meta protocol != @alive accept"
    router = router_rules(ROUTER, FLOWS)
    assert gate in router[router.index("chain hand") : router.index("tproxy")]
    taking = [chain for chain in bridge_rules(BRIDGE, FLOWS, MAC).split("chain ") if "meta pkttype set host" in chain]
    assert len(taking) == 4
    for chain in taking:
        before, _, after = chain.partition(gate)
        assert "meta pkttype set host" in after
        assert "flows" not in before, "who is where is learned all the same; no flow is"


def test_a_flow_that_there_is_no_room_to_remember_is_not_taken() -> None:
    """nft leaves a rule where an element cannot be added; the answers to such a flow would find no way to Locum."""
    for version in (4, 6):
        chain = bridge_rules(BRIDGE, FLOWS, MAC).partition(f"chain take{version} {{")[2].partition("}\n  chain")[0]
        taking = [line for line in chain.splitlines() if "meta pkttype set host" in line]
        assert len(taking) == 2
        assert all(f"update @flows{version}" in line.partition("meta pkttype")[0] for line in taking)


def in_a_namespace(commands: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a shell's commands in a network namespace of their own, which ends with them."""
    need_root()
    need_program("nft", "nftables")
    prepared = f"ip link add c0 type veth peer name s0; ip link add locum0 type bridge; {commands}"
    return subprocess.run(
        ["unshare", "--net", "sh", "-ec", prepared], input=stdin, capture_output=True, text=True, timeout=20
    )


@pytest.mark.parametrize(
    "text",
    [bridge_rules(BRIDGE, FLOWS, MAC), bridge_rules(BRIDGE, FLOWS, MAC, tags=False), router_rules(ROUTER, FLOWS)],
)
def test_the_kernel_takes_the_rules_again_and_again_and_lets_them_go(text: str) -> None:
    done = in_a_namespace(f"nft -f - <<A\n{text}A\nnft -f - <<A\n{text}A\nnft -f - <<A\n{without()}A\nnft list ruleset")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_others_have_in_nftables_stays() -> None:
    other = "add table inet other; add chain inet other in { type filter hook input priority 0; }"
    text = bridge_rules(BRIDGE, FLOWS, MAC)
    done = in_a_namespace(f"nft '{other}'\nnft -f - <<A\n{text}A\nnft -f - <<A\n{without()}A\nnft list tables")
    assert (done.returncode, done.stdout) == (0, "table inet other\n")
