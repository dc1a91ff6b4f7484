"""A first configuration out of what was seen: servers, listeners with the copiers as clients, a place in line.

It loads once its secrets are there. Of each dialect one listener is written for IPv4 and one for IPv6, that of the most
copiers; what else was seen stands beside it, switched off, for two listeners cannot have the same port.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from appliance.seeing import papercut, radius, terminal
from appliance.seeing.sightings import Copier, Sightings, Talk

DIALECTS = (radius.DIALECT, terminal.DIALECT, papercut.DIALECT)
TOGETHER = 2
"""So many copiers of one small network are written as the network."""
_PREFIX = {4: 24, 6: 64}


@dataclass(slots=True)
class _Group:
    """Servers that the same copiers talk to: one upstream."""

    dialect: str
    servers: list[str] = field(default_factory=list)
    copiers: list[str] = field(default_factory=list)
    talks: list[Talk] = field(default_factory=list)


def configuration(sightings: Sightings, heading: str, interfaces: Sequence[str]) -> str:
    """The whole file. `heading`: where and how long was listened. `interfaces`: two, for a place in line."""
    groups = _groups(sightings.copiers())
    parts = [_head(heading)]
    listening: set[tuple[str, int]] = set()
    for dialect in DIALECTS:
        for number, group in enumerate([each for each in groups if each.dialect == dialect], 1):
            name = f"{dialect}-{number}"
            place = (dialect, ip_address(group.servers[0]).version)
            if dialect == papercut.DIALECT:
                parts.append(_upstream(group, name))
            elif place not in listening:
                listening.add(place)
                parts.append(_upstream(group, name) + "\n" + _listen(group, name))
            else:
                text = _upstream(group, name) + "\n" + _listen(group, name)
                parts.append(
                    "# Another server of the same dialect; its listener needs ports of its own.\n" + _off(text)
                )
    if not listening:
        parts.append(_terminals(f"{papercut.DIALECT}-1"))
    parts.append(_inline(sightings, interfaces))
    return "\n".join(parts)


def _groups(copiers: Sequence[Copier]) -> list[_Group]:
    """The largest first."""
    groups: list[_Group] = []
    for copier in copiers:
        for dialect in DIALECTS:
            own = [talk for talk in copier.talks.values() if talk.dialect == dialect]
            for version in (4, 6):
                talks = [talk for talk in own if ip_address(talk.server).version == version]
                if talks:
                    _join(groups, dialect, copier.address, talks)
    return sorted(groups, key=lambda group: -len(group.copiers))


def _join(groups: list[_Group], dialect: str, copier: str, talks: list[Talk]) -> None:
    # A PaperCut upstream has one address; of the others, what one copier falls back to belongs to the same server.
    sets = [[talk] for talk in talks] if dialect == papercut.DIALECT else [talks]
    for some in sets:
        names = [talk.server for talk in some]
        same = [group for group in groups if group.dialect == dialect and set(group.servers) & set(names)]
        group = same[0] if same else _Group(dialect)
        if not same:
            groups.append(group)
        for other in same[1:]:
            groups.remove(other)
            group.servers += other.servers
            group.copiers += other.copiers
            group.talks += other.talks
        group.servers = list(dict.fromkeys([*group.servers, *names]))
        group.copiers = list(dict.fromkeys([*group.copiers, copier]))
        group.talks += some


def _head(heading: str) -> str:
    return f"""\
# Proposed by `locum discover`: {heading}. Look it over, write the secret files that it names (closed to others:
# chown locum: and chmod 600), then run: locum check -c FILE

[appliance]
name = "locum"
state_dir = "/var/lib/locum"
"""


def _upstream(group: _Group, name: str) -> str:
    lines = ["[[upstream]]", f"name = {_text(name)}", f"dialect = {_text(group.dialect)}"]
    encrypted = any(talk.encrypted for talk in group.talks)
    if group.dialect == papercut.DIALECT:
        port = min(group.talks[0].ports)
        host = f"[{group.servers[0]}]" if ":" in group.servers[0] else group.servers[0]
        scheme = "https" if encrypted else "http"
        lines.append(f'url = "{scheme}://{host}:{port}"')
        lines.append(f"token_file = {_text(f'{name}.token')}  # its auth.webservices.auth-token")
        return "\n".join(lines) + "\n"
    servers = group.servers[0] if len(group.servers) == 1 else group.servers
    lines.append(f"address = {json.dumps(servers)}")
    if group.dialect == radius.DIALECT:
        lines.append(f"secret_file = {_text(f'{name}.secret')}  # the one that it shares with the copiers")
        lines += _radius_ports(group)
    else:
        lines.append(f"port = {_terminal_port(group)}")
        if encrypted:
            lines.append('tls = {}  # ca_file = "..." for a private authority')
    return "\n".join(lines) + "\n"


def _listen(group: _Group, name: str) -> str:
    version = ip_address(group.servers[0]).version
    bind = "0.0.0.0" if version == 4 else "::"
    lines = ["[[listen]]", f"dialect = {_text(group.dialect)}", f"bind = {_text(bind)}", f"upstream = {_text(name)}"]
    if group.dialect == terminal.DIALECT:
        lines.append(f"port = {_terminal_port(group)}")
        if any(talk.encrypted for talk in group.talks):
            lines.append(
                '# tls = { certificate_file = "...", key_file = "..." }  # the terminals speak TLS: they need it'
            )
        return "\n".join(lines) + "\n"
    lines += _radius_ports(group)
    clients = [f"  {{ network = {_text(each)}, secret_file = {_text(f'{name}.secret')} }}," for each in _nets(group)]
    return "\n".join([*lines, "clients = [", *clients, "]"]) + "\n"


def _radius_ports(group: _Group) -> list[str]:
    lines = []
    for key, usual, seen in (
        ("auth_port", 1812, [port for talk in group.talks for port in talk.ports]),
        ("accounting_port", 1813, [port for talk in group.talks for port in talk.accounting_ports]),
    ):
        if seen and min(seen) != usual:
            lines.append(f"{key} = {min(seen)}")
    return lines


def _terminal_port(group: _Group) -> int:
    return min(port for talk in group.talks for port in talk.ports)


def _nets(group: _Group) -> list[str]:
    """The copiers' networks; of a copier that is alone in its network, the address."""
    by_network: dict[str, list[str]] = {}
    for address in group.copiers:
        prefix = _PREFIX[ip_address(address).version]
        by_network.setdefault(str(ip_network(f"{address}/{prefix}", strict=False)), []).append(address)
    return [name if len(found) >= TOGETHER else found[0] for name, found in by_network.items()]


def _terminals(name: str) -> str:
    return f"""\
[[listen]]  # no device was seen that speaks to Locum in one of its dialects; say which will
dialect = "terminal"
bind = "0.0.0.0"
upstream = {_text(name)}
"""


def _inline(sightings: Sightings, interfaces: Sequence[str]) -> str:
    if len(interfaces) != 2:
        example = '# [inline]\n# mode = "bridge"\n# copier_side = "eth1"\n# server_side = "eth2"\n'
        return "# To stand in line, name the two interfaces:\n" + example
    first, second = interfaces
    copiers = sightings.copiers()
    heard = {name: sum(name in copier.interfaces for copier in copiers) for name in interfaces}
    copier_side, server_side = (second, first) if heard[second] > heard[first] else (first, second)
    return f'[inline]\nmode = "bridge"\ncopier_side = {_text(copier_side)}\nserver_side = {_text(server_side)}\n'


def _off(text: str) -> str:
    return "".join(f"# {line}\n" if line else "#\n" for line in text.splitlines())


def _text(value: str) -> str:
    """A TOML string; those of JSON are TOML's too."""
    return json.dumps(value, ensure_ascii=False)
