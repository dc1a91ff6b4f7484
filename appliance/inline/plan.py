"""What standing in line takes, step by step, and what is in its way. Nothing is changed here.

The steps are in an order in which each leaves the wire as it was: the rules come last and are taken back first, for a
running appliance has them divert at once, and what they divert needs all the others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from appliance.config import Config, InlineConfig, ReaderConfig
from appliance.inline import rules, tags
from appliance.inline.diverted import Diverted, NotResolved, diverted, idle
from appliance.inline.kernel import Interface, Kernel, KernelRefuses, listed, load_rules, setting
from appliance.inline.policy import HERE_TABLE, OUT_TABLE, PRIORITY
from appliance.inline.steps import Join, MakeBridge, Route, Rule, Rules, Setting, SetUp, Step, Tags
from proxy.net.transparent import MARK

_VERSIONS = (4, 6)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the way. `fatal`: nothing is begun; else it is worth knowing."""

    text: str
    fatal: bool = True


def plan(config: Config, kernel: Kernel) -> list[Step]:
    """The steps into the line. Raises KernelRefuses if they cannot be told: an interface or a server is not there."""
    inline = _inline(config)
    flows = flows_of(config)
    steps = _bridge(inline, flows, kernel) if inline.mode == "bridge" else _router(inline, flows)
    return list(steps)


def flows_of(config: Config) -> list[Diverted]:
    """Raises KernelRefuses."""
    try:
        flows = diverted(config)
    except NotResolved as error:
        raise KernelRefuses(str(error)) from error
    if not flows:
        raise KernelRefuses(
            "no traffic would be Locum's: no [[listen]] has clients and a server of the same IP version as its bind"
        )
    return flows


def problems(config: Config, kernel: Kernel, *, made_here: bool = False) -> Iterator[Problem]:
    """What is in the way of the plan. `made_here`: Locum stands in line already, and is not in its own way."""
    inline = _inline(config)
    for side in ("copier_side", "server_side"):
        yield from _interface(inline, side, kernel, made_here)
    if inline.mode == "bridge":
        found = kernel.interface(inline.bridge)
        if found is not None and not made_here:
            yield Problem(f"there is an interface {inline.bridge} already; name another as bridge in [inline]")
        if why := _no_tags(inline, kernel):
            yield Problem(f"frames with a VLAN tag pass untouched, and are not Locum's ({why})", fatal=False)
    elif setting("net/ipv4/ip_forward") != "1":
        yield Problem("this machine does not forward (net.ipv4.ip_forward is 0); a router must, before Locum is one")
    if inline.mode == "bridge":
        yield from _readers(config, inline, kernel)
    if not made_here:
        yield from _collisions(kernel)
    yield from _rules(config, made_here)


def _readers(config: Config, inline: InlineConfig, kernel: Kernel) -> Iterator[Problem]:
    """Card readers are not in line: they, or their server, connect to an address of this machine."""
    readers = [each.device for each in config.listens if isinstance(each, ReaderConfig)]
    if not readers:
        return
    in_line = (inline.copier_side, inline.server_side, inline.bridge)
    for name in kernel.names():
        found = kernel.interface(name) if name not in in_line else None
        if found is not None and not found.loopback and found.addresses:
            where = f"{found.addresses[0].partition('/')[0]} ({name})"
            text = f"card readers ({len(readers)}) do not stand in line: connections of theirs, and of their servers"
            yield Problem(f"{text}, go to this machine's own address, such as {where}", False)
            return
    yield Problem(
        "card readers are reached at an address of Locum's own; the bridge has none, and no other interface has one: "
        "give a third interface an address, or take out [[reader]]"
    )


def bridge_mac(inline: InlineConfig, kernel: Kernel) -> str:
    """The bridge's own address: that of the copiers' side, made a locally administered one. It is never on the wire."""
    side = kernel.interface(inline.copier_side)
    if side is None:
        raise KernelRefuses(f"there is no interface {inline.copier_side}")
    first, _, rest = side.mac.partition(":")
    octet = (int(first, 16) | 0x02) & 0xFE
    changed = octet if octet != int(first, 16) else octet ^ 0x40
    return f"{changed:02x}:{rest}"


def _bridge(inline: InlineConfig, flows: list[Diverted], kernel: Kernel) -> Iterator[Step]:
    mac = bridge_mac(inline, kernel)
    bridge = inline.bridge
    for key in ("call-iptables", "call-ip6tables", "call-arptables"):
        if setting(f"net/bridge/bridge-nf-{key}") is not None:
            yield Setting(f"net/bridge/bridge-nf-{key}", "0")
    yield MakeBridge(bridge, mac)
    v4, v6 = f"net/ipv4/conf/{bridge}", f"net/ipv6/conf/{bridge}"
    # The reverse path of a device's packet is found by its mark; where nobody listens, packets are forwarded.
    yield Setting(f"{v4}/src_valid_mark", "1")
    yield Setting(f"{v4}/forwarding", "1")
    yield Setting(f"{v4}/send_redirects", "0")
    if 6 in _with_settings():
        yield Setting(f"{v6}/accept_ra", "0")
        yield Setting(f"{v6}/addr_gen_mode", "1")
    # What has no socket any more is answered by the kernel on the way it came.
    yield Setting("net/ipv4/fwmark_reflect", "1")
    if 6 in _with_settings():
        yield Setting("net/ipv6/fwmark_reflect", "1")
    for side in (inline.copier_side, inline.server_side):
        if 6 in _with_settings():
            yield Setting(f"net/ipv6/conf/{side}/disable_ipv6", "1")
        yield Join(side, bridge)
    yield SetUp(bridge)
    for version in _with_settings():
        yield Route(version, OUT_TABLE, bridge)
        yield Route(version, HERE_TABLE, "lo", local=True)
        yield Rule(version, HERE_TABLE, PRIORITY, bridge, MARK)
        yield Rule(version, OUT_TABLE, PRIORITY + 1, bridge)
        yield Rule(version, OUT_TABLE, PRIORITY + 2, "lo", MARK)
        if version == 6:
            yield Rule(version, OUT_TABLE, PRIORITY + 3, bridge, leaving=True)
    handles_tags = not _no_tags(inline, kernel)
    if handles_tags:
        yield Tags(bridge)
    yield Rules(rules.bridge_rules(inline, flows, mac, tags=handles_tags))


def _no_tags(inline: InlineConfig, kernel: Kernel) -> str:
    """Why frames in a VLAN cannot be taken, "" if they can."""
    return "" if kernel.attached(inline.bridge) == [name for name, _ in tags.PROGRAMS] else tags.refusal()


def _router(inline: InlineConfig, flows: list[Diverted]) -> Iterator[Step]:
    for version in _with_settings():
        yield Route(version, HERE_TABLE, "lo", local=True)
        for device in (inline.copier_side, inline.server_side):
            yield Rule(version, HERE_TABLE, PRIORITY, device, MARK)
    yield Rules(rules.router_rules(inline, flows))


def _with_settings() -> list[int]:
    """The IP versions that this kernel has."""
    return [version for version in _VERSIONS if setting(f"net/ipv{version}/conf/lo/forwarding") is not None]


def _inline(config: Config) -> InlineConfig:
    if config.inline is None:
        raise KernelRefuses(f"{config.path} has no section [inline]; see docs/inline.md")
    return config.inline


def _interface(inline: InlineConfig, side: str, kernel: Kernel, made_here: bool) -> Iterator[Problem]:
    name = getattr(inline, side)
    found = kernel.interface(name)
    if found is None:
        others = ", ".join(each for each in kernel.names() if each not in ("lo", inline.bridge))
        yield Problem(f"{side}: there is no interface {name}; there are: {others or 'none'}")
        return
    if found.loopback or not found.ethernet:
        yield Problem(f"{side}: {name} is no Ethernet interface")
    if found.master and not (made_here and found.master == inline.bridge):
        yield Problem(f"{side}: {name} is in {found.master} already; take it out (ip link set {name} nomaster)")
    if inline.mode == "bridge":
        yield from _must_be_bare(side, found, kernel)
    if found.up and not found.carrier:
        yield Problem(f"{side}: {name} has no link; is its cable in?", fatal=False)


def _must_be_bare(side: str, found: Interface, kernel: Kernel) -> Iterator[Problem]:
    """A port of the bridge has no address: whoever reaches this machine by it would lose it."""
    ours = os.environ.get("SSH_CONNECTION", "").split()
    address, _, scope = ours[2].partition("%") if len(ours) == 4 else ("", "", "")
    if address and found.name in (scope, kernel.holds_address(address)):
        yield Problem(f"{side}: you are logged in over {found.name}; the bridge needs interfaces of its own")
    elif found.addresses:
        yield Problem(
            f"{side}: {found.name} has the address {found.addresses[0]}; the bridge needs interfaces without any: "
            "reach this machine by a third one"
        )
    elif kernel.default_routes_over(found.name):
        yield Problem(f"{side}: this machine's default route leaves over {found.name}; the bridge needs its own")


def _collisions(kernel: Kernel) -> Iterator[Problem]:
    for table in (OUT_TABLE, HERE_TABLE):
        if not kernel.table_is_free(table):
            yield Problem(
                f"routing table {table} is in use; Locum needs it for itself (ip rule, ip route show table all)"
            )


def _rules(config: Config, made_here: bool) -> Iterator[Problem]:
    try:
        flows = flows_of(config)
        without = idle(config)
        tables = listed("ruleset")
    except (KernelRefuses, NotResolved) as error:
        yield Problem(str(error))
        return
    for bind in without:
        text = '[[listen]] bind = "{}": nothing is diverted to it; it has no client or no server of that IP version'
        yield Problem(text.format(bind), fatal=False)
    try:
        inline = InlineConfig("bridge", "lo", "lo", "lo") if _inline(config).mode == "bridge" else None
        tried = rules.bridge_rules(inline, flows, "02:00:00:00:00:01", tags=True) if inline else ""
        load_rules(tried or rules.router_rules(_inline(config), flows), only_try=True)
    except KernelRefuses as error:
        yield Problem(f"this kernel cannot do what the rules need: {error}")
    for each in tables:
        table = each.get("table", {})
        if table.get("name") == rules.TABLE and table.get("family") in rules.FAMILIES and not made_here:
            where = f"{table['family']} {rules.TABLE}"
            yield Problem(
                f"there is a table {where} that Locum did not make (nft list table {where}); it needs the name"
            )
        chain = each.get("chain", {})
        if chain.get("table") == rules.TABLE or chain.get("hook") not in ("prerouting", "forward", "ingress", "egress"):
            continue
        where = f"{chain.get('family')} {chain.get('table')} {chain.get('name')}"
        if chain.get("policy") == "drop":
            yield Problem(
                f"the chain {where} drops what it does not know; see that it lets pass what is Locum's", False
            )
        elif chain.get("family") in ("bridge", "netdev"):
            yield Problem(f"the chain {where} looks at frames too; see that it lets pass what is Locum's", False)
