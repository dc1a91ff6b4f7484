"""The rules of nftables that bring Locum's traffic to it, as text for `nft -f`.

On a bridge, a `netdev` table takes the frames of diverted flows from the copiers' and the servers' side up to the
bridge itself, and gives what leaves it the MAC addresses that the stations used themselves, so that nothing on the wire
shows Locum. Frames are taken only while `alive` holds their EtherType: an element that lives a second and that the
running appliance makes anew all the time (`heartbeat.py`). When it is killed, hangs or is stopped, the kernel bridges
everything within that time. A TCP flow that was open before is not taken: only what began with a SYN seen here is.

On a bridge and on a router, an `inet` table hands the packets to the listeners (TPROXY); on a router, the same element
decides there. Where nobody listens packets are simply forwarded.

nft's JSON of today cannot say `update @map`, so that the rules are written in nft's own language, on its standard
input; what is read from nft is JSON. Nothing in the text comes from anybody but the checked configuration.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from appliance.config import InlineConfig
from appliance.inline.diverted import EVERYWHERE, Diverted
from proxy.net.transparent import MARK

TABLE = "locum"
ALIVE_MS = 1_000
"""Milliseconds that the kernel goes on diverting without a heartbeat."""
BEATS_TO = {4: "127.0.0.1", 6: "::1"}
BEAT_PORT = 9
"""Heartbeats are datagrams to the loopback interface, where the rules see and drop them (discard, RFC 863)."""

PASSED_ON = MARK + 1
"""On what nobody listens for, and is forwarded."""

_OURS = f"meta mark {{ {MARK:#x}, {PASSED_ON:#x} }}"
_SYN = "tcp flags & (syn | ack) == syn"
_IP = {4: "ip", 6: "ip6"}
_ADDRESS = {4: "ipv4_addr", 6: "ipv6_addr"}
_BEGIN = f"""\
add table {{family}} {TABLE}
delete table {{family}} {TABLE}
"""


def bridge_rules(inline: InlineConfig, flows: Sequence[Diverted], mac: str) -> str:
    """`mac`: the bridge's own address."""
    lines = [*_alive(), *_sets(), *(line for version in (4, 6) for line in _taking(version, mac))]
    lines += _chain("beats", 'type filter hook ingress device "lo" priority 0; policy accept;')
    lines += [f"    {_beat()}", "  }"]
    lines += _chain("copiers", f'type filter hook ingress device "{inline.copier_side}" priority 0; policy accept;')
    lines += [f"    {line}" for line in _from_copiers(flows)] + ["  }"]
    lines += _chain("servers", f'type filter hook ingress device "{inline.server_side}" priority 0; policy accept;')
    lines += [f"    {line}" for line in _from_servers(flows)] + ["  }"]
    # The bridge sends to every side where nobody's frames came from lately: a copier's MAC address on the copiers' own
    # side, sent from here, would mislead their switch.
    lines += _chain("to_copiers", f'type filter hook egress device "{inline.copier_side}" priority 0; policy accept;')
    lines += [f"    {_OURS} {_IP[version]} daddr {servers} counter drop" for version, servers in _servers(flows)]
    lines += ["  }"]
    lines += _chain("to_servers", f'type filter hook egress device "{inline.server_side}" priority 0; policy accept;')
    lines += [f"    {_OURS} {_IP[version]} saddr {servers} counter drop" for version, servers in _servers(flows)]
    lines += ["  }"]
    lines += _chain("out", f'type filter hook egress device "{inline.bridge}" priority 0; policy drop;')
    lines += [f"    {line}" for line in _out(flows)] + ["  }"]
    body = "\n".join(lines)
    return f"{_BEGIN.format(family='netdev')}table netdev {TABLE} {{\n{body}\n}}\n" + _handing(
        [inline.bridge], flows, bridged=True
    )


def router_rules(inline: InlineConfig, flows: Sequence[Diverted]) -> str:
    return _handing([inline.copier_side, inline.server_side], flows, bridged=False)


def without() -> str:
    """What takes the rules away, whether they are there or not."""
    return "".join(_BEGIN.format(family=family) for family in ("netdev", "inet"))


def _alive() -> Iterator[str]:
    yield "  set alive {"
    yield f"    type ether_type; flags dynamic,timeout; timeout {ALIVE_MS}ms; size 16;"
    yield "  }"


def _beat() -> str:
    return f"meta mark {MARK:#x} udp dport {BEAT_PORT} update @alive {{ meta protocol }} counter drop"


def _sets() -> Iterator[str]:
    for version in (4, 6):
        address = _ADDRESS[version]
        yield f"  map mac{version} {{"
        yield f"    type {address} : ether_addr; flags dynamic,timeout; timeout 30d; size 65535;"
        yield "  }"
        yield f"  set flows{version} {{"
        yield f"    type inet_proto . {address} . inet_service . {address} . inet_service;"
        yield "    flags dynamic,timeout; timeout 2h; size 65535;"
        yield "  }"
    yield "  set fragments4 {"
    yield "    typeof ip saddr . ip daddr . ip id; flags dynamic,timeout; timeout 30s; size 65535;"
    yield "  }"


def _taking(version: int, mac: str) -> Iterator[str]:
    """Chains that take a frame up to the bridge: one towards the server, one towards the copier."""
    ip = _IP[version]
    yield f"  chain take{version} {{"
    if version == 4:
        yield "    ip frag-off & 0x3fff != 0 update @fragments4 { ip saddr . ip daddr . ip id }"
    yield f"    update @flows{version} {{ {_towards(ip)} }}"
    yield from _taken(mac)
    yield f"  chain more{version} {{"
    yield from _taken(mac)


def _taken(mac: str) -> Iterator[str]:
    yield f"    meta pkttype set host ether daddr set {mac} counter accept"
    yield "  }"


def _from_copiers(flows: Sequence[Diverted]) -> Iterator[str]:
    for version, servers in _servers(flows):
        ip = _IP[version]
        yield f"{ip} daddr {servers} update @mac{version} {{ {ip} saddr : ether saddr }}"
        yield f"{ip} daddr {servers} update @mac{version} {{ {ip} daddr : ether daddr }}"
    yield "meta protocol != @alive accept"
    for flow in flows:
        ports = f"{flow.protocol} dport {_several(flow.ports)}"
        begins = f" {_SYN}" if flow.protocol == "tcp" else ""
        yield f"{_between(flow)} {ports}{begins} goto take{flow.version}"
    for version, _ in _servers(flows):
        yield f"{_towards(_IP[version])} @flows{version} goto take{version}"
    yield "ip saddr . ip daddr . ip id @fragments4 ip frag-off & 0x1fff != 0 goto more4"


def _from_servers(flows: Sequence[Diverted]) -> Iterator[str]:
    for version, servers in _servers(flows):
        ip = _IP[version]
        yield f"{ip} saddr {servers} update @mac{version} {{ {ip} saddr : ether saddr }}"
        if version == 4:
            yield f"arp saddr ip {servers} update @mac4 {{ arp saddr ip : arp saddr ether }}"
    yield "meta protocol != @alive accept"
    for version, servers in _servers(flows):
        back = _back(_IP[version])
        if version == 4:
            fragment = f"ip saddr {servers} {back} @flows4 ip frag-off & 0x3fff != 0"
            yield f"{fragment} update @fragments4 {{ ip saddr . ip daddr . ip id }}"
        yield f"{_IP[version]} saddr {servers} {back} @flows{version} goto more{version}"
    yield "ip saddr . ip daddr . ip id @fragments4 ip frag-off & 0x1fff != 0 goto more4"


def _out(flows: Sequence[Diverted]) -> Iterator[str]:
    for version, servers in _servers(flows):
        ip = _IP[version]
        yield f"meta mark {MARK:#x} {ip} daddr {servers} update @flows{version} {{ {_towards(ip)} }}"
    for version in (4, 6):
        ip, found = _IP[version], f"map @mac{version}"
        yield f"ether daddr set {ip} daddr {found} ether saddr set {ip} saddr {found} counter accept"
    yield "counter"


def _handing(interfaces: Sequence[str], flows: Sequence[Diverted], *, bridged: bool) -> str:
    """The table that hands packets to listeners. `bridged`: what comes has been chosen by the bridge, and what has no
    socket any more is answered by the kernel, for nobody else sees it.
    """
    several = "{ " + ", ".join(f'"{name}"' for name in interfaces) + " }"
    mine = f"meta mark set {MARK:#x}"
    lines = [] if bridged else list(_alive())
    lines += _chain("hand", "type filter hook prerouting priority mangle; policy accept;")
    if not bridged:
        lines.append(f'    iifname "lo" {_beat()}')
    lines.append(f"    iifname != {several} accept")
    if not bridged:
        lines.append("    meta protocol != @alive accept")
    lines.append(f"    meta l4proto {{ tcp, udp }} socket transparent 1 {mine} counter accept")
    for flow in flows:
        begins = f"{_SYN} " if flow.protocol == "tcp" else ""
        for port in flow.ports:
            proxy = f"tproxy {_IP[flow.version]} to :{port} {mine} counter accept"
            device = "" if bridged else f'iifname "{interfaces[0]}" '
            lines.append(f"    {device}{_between(flow)} {flow.protocol} dport {port} {begins}{proxy}")
    if bridged:
        lines.append(f"    meta l4proto tcp {_SYN.replace('==', '!=')} {mine} counter accept")
        lines.append(f"    meta mark set {PASSED_ON:#x} counter accept")
    lines.append("  }")
    body = "\n".join(lines)
    return f"{_BEGIN.format(family='inet')}table inet {TABLE} {{\n{body}\n}}\n"


def _chain(name: str, hook: str) -> list[str]:
    return [f"  chain {name} {{", f"    {hook}"]


def _servers(flows: Sequence[Diverted]) -> Iterator[tuple[int, str]]:
    """Each version that there are flows of, with the addresses of its servers."""
    for version in (4, 6):
        found = dict.fromkeys(each for flow in flows if flow.version == version for each in flow.servers)
        if found:
            yield version, _several(list(found))


def _between(flow: Diverted) -> str:
    ip = _IP[flow.version]
    clients = "" if flow.clients == (EVERYWHERE[flow.version],) else f"{ip} saddr {_several(flow.clients)} "
    return f"{clients}{ip} daddr {_several(flow.servers)}"


def _towards(ip: str) -> str:
    return f"meta l4proto . {ip} saddr . th sport . {ip} daddr . th dport"


def _back(ip: str) -> str:
    """The same flow, seen from the other side."""
    return f"meta l4proto . {ip} daddr . th dport . {ip} saddr . th sport"


def _several(values: Sequence[object]) -> str:
    return "{ " + ", ".join(str(value) for value in values) + " }"
