"""The rules of nftables that bring Locum's traffic to it, as text for `nft -f`.

On a bridge, a `netdev` table takes the frames of diverted flows from the copiers' and the servers' side up to the
bridge itself, and gives what leaves it the MAC addresses that the stations used themselves, so that nothing on the wire
shows Locum. Frames are taken only while `alive` holds their EtherType: an element that lives a second and that the
running appliance makes anew all the time (`heartbeat.py`). When it is killed, hangs or is stopped, the kernel bridges
everything within that time. A TCP flow that was open before is not taken: only what began with a SYN seen here is.
MAC addresses that have not passed since the rules were made are told by the appliance, on the loopback interface.
A frame in a VLAN is taken where the machine can take its tag off and put it on (`tags.py`). What Locum sends to a
copier, or as one, goes into the VLAN that the copier was seen in last, and to the MAC address that the server, or the
gateway to it, has there.

On a bridge and on a router, an `inet` table hands the packets to the listeners (TPROXY); on a router, the same element
decides there. Where nobody listens packets are simply forwarded.

nft's JSON of today cannot say `update @map`, so that the rules are written in nft's own language, on its standard
input; what is read from nft is JSON. Nothing in the text comes from anybody but the checked configuration.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from socket import IPPROTO_UDP

from appliance.config import InlineConfig
from appliance.inline.diverted import EVERYWHERE, Diverted
from proxy.net.transparent import MARK

TABLE = "locum"
FAMILIES = ("netdev", "inet", "ip6")
ALIVE_MS = 1_000
"""Milliseconds that the kernel goes on diverting without a heartbeat."""
BEATS_TO = {4: "127.0.0.1", 6: "::1"}
BEAT_PORT = 9
"""Heartbeats are datagrams to the loopback interface, where the rules see and drop them (discard, RFC 863)."""

PASSED_ON = MARK + 1
"""On what nobody listens for, and is forwarded."""

_OURS = f"meta mark {{ {MARK:#x}, {PASSED_ON:#x} }}"
MOST_FLOWS = 262_144
"""At a time. What begins when there are as many passes, for an answer to it would find no way to Locum."""
_REMEMBERED = {"udp": "1m", "tcp": "15m"}
"""How long a flow stays after its last packet. Lines of terminals are never silent for so long (heartbeats)."""
_PASSES = "meta protocol != @alive accept"
_SYN = "tcp flags & (syn | ack) == syn"
_IP = {4: "ip", 6: "ip6"}
_ADDRESS = {4: "ipv4_addr", 6: "ipv6_addr"}
_FRAGMENT = {4: "ip saddr . ip daddr . ip id", 6: "ip6 saddr . ip6 daddr . frag id"}
_FRAGMENTED = {4: "ip frag-off & 0x3fff != 0", 6: "frag more-fragments 1"}
"""It has the ports, and others follow."""
_FOLLOWS = {4: "ip frag-off & 0x1fff != 0", 6: "frag frag-off != 0"}
"""It has no ports."""
_UNREACHABLE = {4: "icmp type destination-unreachable", 6: "icmpv6 type destination-unreachable"}
_QUOTED = {4: ("@th,136,8", "@th,192,32", "@th,240,16"), 6: ("@th,112,8", "@th,256,128", "@th,400,16")}
"""Of the packet in an ICMP error: protocol, where to, and to which port (RFC 792; RFC 4443 section 3.1)."""
_DOT1Q, _DOT1AD = "0x8100", "0x88a8"
_BEGIN = f"""\
add table {{family}} {TABLE}
delete table {{family}} {TABLE}
"""


def bridge_rules(inline: InlineConfig, flows: Sequence[Diverted], mac: str, *, tags: bool = True) -> str:
    """`mac`: the bridge's own address. `tags`: it takes VLAN tags off and puts them on; else frames with one pass."""
    lines = [*_alive(), *_sets(), *_learning(), *(line for version in (4, 6) for line in _taking(version, mac))]
    lines += _chain("beats", 'type filter hook ingress device "lo" priority 0; policy accept;')
    lines += [f"    {line}" for line in (_beat(), *_lessons())] + ["  }"]
    lines += _chain("copiers", f'type filter hook ingress device "{inline.copier_side}" priority 0; policy accept;')
    lines += [f"    {line}" for line in (*_elsewhere(flows), *_untouched(tags), *_from_copiers(flows))] + ["  }"]
    lines += _chain("servers", f'type filter hook ingress device "{inline.server_side}" priority 0; policy accept;')
    lines += [f"    {line}" for line in (*_untouched(tags), *_from_servers(flows))] + ["  }"]
    # The bridge sends to every side where nobody's frames came from lately: a copier's MAC address on the copiers' own
    # side, sent from here, would mislead their switch.
    lines += _chain("to_copiers", f'type filter hook egress device "{inline.copier_side}" priority 0; policy accept;')
    lines += ["    meta mark 0 accept"]
    lines += [f"    {_OURS} {_IP[version]} daddr {servers} counter drop" for version, servers in _servers(flows)]
    lines += ["  }"]
    lines += _chain("to_servers", f'type filter hook egress device "{inline.server_side}" priority 0; policy accept;')
    lines += ["    meta mark 0 accept"]
    lines += [f"    {_OURS} {_IP[version]} saddr {servers} counter drop" for version, servers in _servers(flows)]
    lines += ["  }"]
    lines += _chain("out", f'type filter hook egress device "{inline.bridge}" priority 0; policy drop;')
    lines += [f"    {line}" for line in _out(flows, tags)] + ["  }"]
    body = "\n".join(lines)
    return f"{_BEGIN.format(family='netdev')}table netdev {TABLE} {{\n{body}\n}}\n" + "".join(
        (_handing([inline.bridge], flows, bridged=True), *_passing_on(inline.bridge, flows))
    )


def router_rules(inline: InlineConfig, flows: Sequence[Diverted]) -> str:
    return _handing([inline.copier_side, inline.server_side], flows, bridged=False)


def families(text: str) -> list[str]:
    """Those of the tables in these rules."""
    return [line.split()[1] for line in text.splitlines() if line.startswith("table ")]


def without() -> str:
    """What takes the rules away, whether they are there or not."""
    return "".join(_BEGIN.format(family=family) for family in FAMILIES)


def _alive() -> Iterator[str]:
    yield "  set alive {"
    yield f"    type ether_type; flags dynamic,timeout; timeout {ALIVE_MS}ms; size 16;"
    yield "  }"


def _beat() -> str:
    return f"meta mark {MARK:#x} udp dport {BEAT_PORT} update @alive {{ meta protocol }} counter drop"


def _lessons() -> Iterator[str]:
    """What the appliance tells of MAC addresses and VLANs (`proxy/lessons.py`); what was seen on the wire goes before
    it.
    """
    mine = f"meta mark {MARK:#x} arp operation reply"
    yield f"{mine} jump network"
    for which, version, address in (("!= 0.0.0.0", 4, "arp saddr ip"), ("0.0.0.0", 6, "@nh,224,128")):
        yield f"{mine} arp saddr ip {which} add @vlan{version} {{ {address} : meta priority }}"
        yield f"{mine} arp saddr ip {which} add @mac{version} {{ {address} : arp saddr ether }} counter drop"


def _sets() -> Iterator[str]:
    for version in (4, 6):
        address = _ADDRESS[version]
        yield f"  map mac{version} {{"
        yield f"    type {address} : ether_addr; flags dynamic,timeout; timeout 30d; size 65535;"
        yield "  }"
        yield f"  map vlan{version} {{"
        yield f"    type {address} : classid; flags dynamic,timeout; timeout 30d; size 65535;"
        yield "  }"
        yield f"  map far{version} {{"
        yield f"    type classid . {address} : ether_addr; flags dynamic,timeout; timeout 30d; size 65535;"
        yield "  }"
        yield f"  set flows{version} {{"
        yield f"    type inet_proto . {address} . inet_service . {address} . inet_service;"
        yield f"    flags dynamic,timeout; timeout {_REMEMBERED['tcp']}; size {MOST_FLOWS};"
        yield "  }"
        yield f"  set fragments{version} {{"
        yield f"    typeof {_FRAGMENT[version]}; flags dynamic,timeout; timeout 30s; size 65535;"
        yield "  }"


def _taking(version: int, mac: str) -> Iterator[str]:
    """Chains that take a frame up to the bridge while the appliance works: one towards the server, one towards the
    copier, and one in either direction.
    """
    fragment = f"{_FRAGMENTED[version]} update @fragments{version} {{ {_FRAGMENT[version]} }}"
    yield f"  chain take{version} {{"
    yield f"    jump asks{version}"
    yield f"    {_PASSES}"
    yield f"    {fragment}"
    for flow in _remember(version):
        yield f"    {flow} {_taken(mac)}"
    yield "    counter"
    yield "  }"
    yield f"  chain back{version} {{"
    yield f"    jump answers{version}"
    yield f"    {fragment}"
    yield f"    goto more{version}"
    yield "  }"
    yield f"  chain more{version} {{"
    yield f"    {_PASSES}"
    yield f"    {_taken(mac)}"
    yield "  }"
    yield f"  chain later{version} {{"
    yield f"    {_FRAGMENT[version]} @fragments{version} goto more{version}"
    yield "    accept"
    yield "  }"


def _taken(mac: str) -> str:
    return f"meta pkttype set host ether daddr set {mac} counter accept"


def _remember(version: int) -> Iterator[str]:
    """Rules go on after these words only where there was room for the flow."""
    for protocol, time in _REMEMBERED.items():
        yield f"meta l4proto {protocol} update @flows{version} {{ {_towards(_IP[version])} timeout {time} }}"


def _learning() -> Iterator[str]:
    """Chains that learn who is where from a frame to a server, and from one of a server."""
    yield "  chain network {"
    yield "    meta priority set 0"
    # EtherType and number: the order of the octets depends on nft, and is found out where it is read (`tags.py`).
    yield f"    @ll,96,16 {_DOT1Q} @ll,116,12 != 0 meta priority set @ll,96,32 & 0xffff0fff"
    yield "  }"
    for version in (4, 6):
        ip = _IP[version]
        yield f"  chain asks{version} {{"
        yield "    jump network"
        yield f"    update @mac{version} {{ {ip} saddr : ether saddr }}"
        yield f"    update @vlan{version} {{ {ip} saddr : meta priority }}"
        yield f"    update @mac{version} {{ {ip} daddr : ether daddr }}"
        yield f"    update @far{version} {{ meta priority . {ip} daddr : ether daddr }}"
        yield "    meta priority set 0"
        yield "  }"
        yield f"  chain answers{version} {{"
        yield "    jump network"
        yield f"    update @mac{version} {{ {ip} saddr : ether saddr }}"
        yield f"    update @far{version} {{ meta priority . {ip} saddr : ether saddr }}"
        yield "    meta priority set 0"
        yield "  }"
    yield "  chain claims {"
    yield "    jump network"
    yield "    update @mac4 { arp saddr ip : arp saddr ether }"
    yield "    update @far4 { meta priority . arp saddr ip : arp saddr ether }"
    yield "    meta priority set 0"
    yield "  }"


def _untouched(tags: bool) -> Iterator[str]:
    """Frames of bridges of providers, and where the machine cannot do without the tag, all that have one; and later
    fragments but those of Locum's flows: nft would take any octets in them for ports.
    """
    yield f"@ll,96,16 {_DOT1AD if tags else f'{{ {_DOT1Q}, {_DOT1AD} }}'} accept"
    for version in (4, 6):
        yield f"{_FOLLOWS[version]} goto later{version}"


def _elsewhere(flows: Sequence[Diverted]) -> Iterator[str]:
    """Most of what copiers send: of IPv4 and to a port that no listener has. (To servers' other ports Locum itself may
    speak in a copier's name, so that the way back knows no such rule.)
    """
    for protocol in _REMEMBERED:
        ports = sorted({each for flow in flows if flow.protocol == protocol for each in flow.ports})
        if ports:
            bounds = f"{ports[0]}-{ports[-1]}" if len(ports) > 1 else f"{ports[0]}"
            # No later fragment. What IPv6 has in place of the offset is not zero: UDP or TCP is the next header.
            yield f"{protocol} dport != {bounds} @nh,48,16 & 0x1fff == 0 accept"


def _from_copiers(flows: Sequence[Diverted]) -> Iterator[str]:
    """What is not Locum's gets by with comparisons alone: looking into a set takes as long as all of them."""
    for version, servers in _servers(flows):
        # What begins anew is not what had these ports before: nobody has it yet.
        ip = _IP[version]
        yield f"{ip} daddr {servers} {_SYN} delete @flows{version} {{ {_towards(ip)} }}"
    for flow in flows:
        wanted = f"{_between(flow)} {flow.protocol} dport {_several(flow.ports)}"
        if flow.protocol == "tcp":
            yield f"{wanted} {_SYN} goto take{flow.version}"
            yield f"{wanted} {_towards(_IP[flow.version])} @flows{flow.version} goto take{flow.version}"
        else:
            yield f"{wanted} goto take{flow.version}"


def _from_servers(flows: Sequence[Diverted]) -> Iterator[str]:
    for version, servers in _servers(flows):
        from_server = f"{_IP[version]} saddr {servers}"
        if version == 4:
            yield f"arp saddr ip {servers} jump claims"
        yield f"{from_server} {_back(_IP[version])} @flows{version} goto back{version}"
    yield from _refusals(flows)


def _refusals(flows: Sequence[Diverted]) -> Iterator[str]:
    """What a server, or a gateway, says of datagrams that Locum sent as a device: the device has an answer coming."""
    for flow in flows:
        if flow.protocol == "udp":
            protocol, where, port = _QUOTED[flow.version]
            servers = _several([f"{int(ip_address(each)):#x}" for each in flow.servers])
            to = f"{_IP[flow.version]} daddr {_several(flow.clients)}"
            quoted = f"{protocol} {IPPROTO_UDP:d} {where} {servers} {port} {_several(flow.ports)}"
            yield f"{_UNREACHABLE[flow.version]} {to} {quoted} drop"


def _out(flows: Sequence[Diverted], tags: bool) -> Iterator[str]:
    for version, servers in _servers(flows):
        ip = _IP[version]
        for flow in _remember(version):
            yield f"meta mark {MARK:#x} {ip} daddr {servers} {flow}"
        # The server has it now, and it stays there when Locum works again.
        yield f"meta mark {PASSED_ON:#x} {ip} daddr {servers} delete @flows{version} {{ {_towards(ip)} }}"
    # That of the copier, at whichever end; the server's MAC address there, or else any that it has.
    yield "meta priority set 0"
    for version, servers in _servers(flows):
        ip, mac, far = _IP[version], f"map @mac{version}", f"map @far{version}"
        to_mac, to_far = f"ether daddr set {ip} daddr {mac}", f"ether daddr set meta priority . {ip} daddr {far}"
        as_mac, as_far = f"ether saddr set {ip} saddr {mac}", f"ether saddr set meta priority . {ip} saddr {far}"
        yield f"{ip} daddr {servers} meta priority set {ip} saddr map @vlan{version}"
        yield f"{ip} saddr {servers} meta priority set {ip} daddr map @vlan{version}"
        if not tags:
            # Remembered from when they could be put on: without one it would go into another network.
            yield "meta priority != 0 drop"
        yield f"{ip} daddr {servers} {to_far} {as_mac} counter accept"
        yield f"{ip} saddr {servers} {as_far} {to_mac} counter accept"
        yield f"{to_mac} {as_mac} counter accept"
    # The kernel would forward the stations' multicast, which is on the other side already.
    yield "ip6 daddr ff00::/8 drop"
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
        lines.append(f"    {_PASSES}")
        lines += [f'    iifname "{interfaces[1]}" {refusal}' for refusal in _refusals(flows)]
    lines.append(f"    meta l4proto {{ tcp, udp }} socket transparent 1 {mine} counter accept")
    for flow in flows:
        begins = f"{_SYN} " if flow.protocol == "tcp" else ""
        for port in flow.ports:
            proxy = f"tproxy {_IP[flow.version]} to {_place(flow, port)} {mine} counter accept"
            device = "" if bridged else f'iifname "{interfaces[0]}" '
            lines.append(f"    {device}{_between(flow)} {flow.protocol} dport {port} {begins}{proxy}")
    if bridged:
        lines.append(f"    meta l4proto tcp {_SYN.replace('==', '!=')} {mine} counter accept")
        lines.append(f"    meta mark set {PASSED_ON:#x} counter accept")
    lines.append("  }")
    body = "\n".join(lines)
    return f"{_BEGIN.format(family='inet')}table inet {TABLE} {{\n{body}\n}}\n"


def _passing_on(bridge: str, flows: Sequence[Diverted]) -> Iterator[str]:
    """What nobody listens for, over IPv6: a copy leaves by the bridge. For the kernel to forward it, the whole machine
    would have to be a router, and to forget its own routes (before Linux 6.17); IPv4 has a setting for one interface.
    """
    yield _BEGIN.format(family="ip6")
    if any(flow.version == 6 for flow in flows):
        lines = _chain("pass_on", "type filter hook prerouting priority mangle + 1; policy accept;")
        lines.append(f'    meta mark {PASSED_ON:#x} dup to ip6 daddr device "{bridge}" drop')
        yield "\n".join([f"table ip6 {TABLE} {{", *lines, "  }", "}\n"])


def _place(flow: Diverted, port: int) -> str:
    return f"[{flow.bind}]:{port}" if flow.version == 6 and flow.bind else f"{flow.bind}:{port}"


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
