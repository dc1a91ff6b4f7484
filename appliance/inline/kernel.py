"""The kernel's side of standing in line: interfaces, routes and settings by netlink and /proc/sys, rules by nft.

Everything here acts on the network namespace that this process is in. Errors are `KernelRefuses`, in one line.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute  # type: ignore[import-untyped]
from pyroute2.netlink.exceptions import NetlinkError  # type: ignore[import-untyped]

from appliance.inline import tags

FAMILY = {4: 2, 6: 10}
LONGEST = 10.0
"""Seconds that nft may take."""

_SETTINGS = Path("/proc/sys")
_ETHERNET = 1
_NOARP = 0x80
_UP = 0x1
_GONE = (errno.ENOENT, errno.ESRCH, errno.ENODEV)
_HOOKS = (0xFFFFFFF2, 0xFFFFFFF3)
"""Of clsact: what comes in, and what goes out (linux/pkt_sched.h)."""


class KernelRefuses(Exception):
    """The kernel, or nft, does not do what it was told. The text is one line."""


@dataclass(frozen=True, slots=True)
class Interface:
    """`kind`: bridge, veth, vlan, ... or "" for hardware. `master`: the name of the bridge or bond that it is in, ""
    for none. `addresses`: its own, link-local ones of IPv6 not among them.
    """

    index: int
    name: str
    mac: str
    kind: str
    up: bool
    carrier: bool
    ethernet: bool
    loopback: bool
    master: str
    addresses: tuple[str, ...]


class Kernel:
    """To be closed; use `kernel()`."""

    def __init__(self, netlink: IPRoute) -> None:
        self._netlink = netlink

    def interface(self, name: str) -> Interface | None:
        index = self._index(name)
        if index is None:
            return None
        link = self._netlink.get_links(index)[0]
        info = link.get_attr("IFLA_LINKINFO")
        master = link.get_attr("IFLA_MASTER")
        return Interface(
            index,
            name,
            link.get_attr("IFLA_ADDRESS") or "",
            (info.get_attr("IFLA_INFO_KIND") or "") if info else "",
            bool(link["flags"] & _UP),
            bool(link.get_attr("IFLA_CARRIER")),
            link["ifi_type"] == _ETHERNET,
            bool(link["flags"] & 0x8),
            self._name(master) if master else "",
            tuple(
                f"{each.get_attr('IFA_ADDRESS')}/{each['prefixlen']}"
                for each in self._netlink.get_addr(index=index)
                if not (each["family"] == FAMILY[6] and each["scope"] == 253)
            ),
        )

    def names(self) -> list[str]:
        """Of all interfaces."""
        return [link.get_attr("IFLA_IFNAME") for link in self._netlink.get_links()]

    def holds_address(self, address: str) -> str:
        """The name of the interface with this address, "" if none has it."""
        for each in self._netlink.get_addr():
            if each.get_attr("IFA_ADDRESS") == address or each.get_attr("IFA_LOCAL") == address:
                return self._name(each["index"])
        return ""

    def default_routes_over(self, name: str) -> bool:
        index = self._index(name)
        return any(
            route.get_attr("RTA_OIF") == index
            for version in (4, 6)
            for route in self._netlink.get_default_routes(family=FAMILY[version])
        )

    def has_route(self, version: int, table: int) -> bool:
        return bool(list(self._netlink.get_routes(family=FAMILY[version], table=table)))

    def has_rule(self, version: int, table: int, priority: int, device: str) -> bool:
        return any(
            (each.get_attr("FRA_TABLE"), each.get_attr("FRA_PRIORITY")) == (table, priority)
            and device in (each.get_attr("FRA_IIFNAME"), each.get_attr("FRA_OIFNAME"))
            for each in self._netlink.get_rules(family=FAMILY[version])
        )

    def table_is_free(self, table: int) -> bool:
        """Whether there is neither a route nor a rule for a routing table."""
        for family in FAMILY.values():
            if list(self._netlink.get_routes(family=family, table=table)):
                return False
            if any(rule.get_attr("FRA_TABLE") == table for rule in self._netlink.get_rules(family=family)):
                return False
        return True

    def add_bridge(self, name: str, mac: str) -> None:
        """A bridge that forwards at once, without spanning tree, and never asks for an address."""
        with _refusal(f"the bridge {name} cannot be made"):
            self._netlink.link(
                "add",
                ifname=name,
                kind="bridge",
                address=mac,
                br_stp_state=0,
                br_forward_delay=0,
                br_mcast_snooping=0,
            )
            self._netlink.link("set", index=self._index(name), flags=_NOARP, change=_NOARP)

    def delete_link(self, name: str) -> None:
        index = self._index(name)
        if index is not None:
            with _refusal(f"{name} cannot be taken away"):
                self._netlink.link("del", index=index)

    def join(self, name: str, bridge: str) -> None:
        """Put an interface into a bridge; "" takes it out."""
        with _refusal(f"{name} cannot be put into {bridge}" if bridge else f"{name} cannot be taken out of its bridge"):
            self._netlink.link("set", index=self._index(name), master=self._index(bridge) if bridge else 0)

    def set_up(self, name: str, up: bool) -> None:
        with _refusal(f"{name} cannot be set {'up' if up else 'down'}"):
            self._netlink.link("set", index=self._index(name), state="up" if up else "down")

    def route(self, do: str, version: int, table: int, device: str, *, local: bool) -> None:
        """`do`: add or del. The only route of a table: everything over `device`, or as this machine's own."""
        with _refusal(f"the route over {device} in table {table} cannot be set", unless_gone=do == "del"):
            self._netlink.route(
                do,
                family=FAMILY[version],
                table=table,
                dst="default",
                oif=self._index(device),
                scope=254 if local else 253,
                type="local" if local else "unicast",
            )

    def rule(self, do: str, version: int, table: int, priority: int, which: Mapping[str, str | int]) -> None:
        """`do`: add or del. `which`: packets that look into a table, by `iifname` (lo: what leaves from here),
        `oifname`, `fwmark`.
        """
        with _refusal(f"the routing rule for table {table} cannot be set", unless_gone=do == "del"):
            self._netlink.rule(do, family=FAMILY[version], table=table, priority=priority, **which)

    def attach(self, device: str, programs: Sequence[tuple[str, Sequence[tags.Instruction]]]) -> None:
        """Have two programs look at each frame, the first at those that come in on `device`, the second at those that
        leave it. They are the only ones there then.
        """
        self.detach(device)
        index = self._index(device)
        with _refusal(f"programs for frames cannot be attached to {device}"):
            self._netlink.tc("add", "clsact", index)
            for parent, (name, instructions) in zip(_HOOKS, programs, strict=True):
                with tags.loaded(name, instructions) as program:
                    about = {"fd": program, "name": name, "direct_action": True, "classid": 1}
                    self._netlink.tc("add-filter", "bpf", index, 1, parent=parent, prio=1, **about)

    def attached(self, device: str) -> list[str]:
        """The names of the programs that look at the frames of a device."""
        index = self._index(device)
        found = [] if index is None else [each for hook in _HOOKS for each in self._netlink.get_filters(index, 0, hook)]
        options = [each.get_attr("TCA_OPTIONS") for each in found if each.get_attr("TCA_KIND") == "bpf"]
        return [name for each in options if each and (name := each.get_attr("TCA_BPF_NAME"))]

    def detach(self, device: str) -> None:
        """Take away what `attach` attached, if it is there."""
        index = self._index(device)
        if index is not None and any(each.get_attr("TCA_KIND") == "clsact" for each in self._netlink.get_qdiscs(index)):
            with _refusal(f"the programs at {device} cannot be taken away", unless_gone=True):
                self._netlink.tc("del", "clsact", index)

    def _index(self, name: str) -> int | None:
        found = self._netlink.link_lookup(ifname=name)
        return int(found[0]) if found else None

    def _name(self, index: int) -> str:
        with suppress(NetlinkError):
            return str(self._netlink.get_links(index)[0].get_attr("IFLA_IFNAME"))
        return ""


@contextmanager
def kernel() -> Iterator[Kernel]:
    """Raises KernelRefuses."""
    try:
        netlink = IPRoute()
    except OSError as error:
        raise KernelRefuses(f"netlink cannot be used ({error.strerror})") from error
    try:
        yield Kernel(netlink)
    finally:
        netlink.close()


def setting(key: str) -> str | None:
    """What a setting below /proc/sys is; None if this kernel, or this interface, has none of that name."""
    try:
        return (_SETTINGS / key).read_text().strip()
    except OSError:
        return None


def set_setting(key: str, value: str) -> None:
    """Raises KernelRefuses."""
    if ".." in key.split("/") or key.startswith("/"):
        raise KernelRefuses(f"{key} is no setting of the kernel")
    try:
        (_SETTINGS / key).write_text(value)
    except OSError as error:
        raise KernelRefuses(f"{key} cannot be set to {value} ({error.strerror})") from error


def load_rules(text: str, *, only_try: bool = False) -> None:
    """Give rules to the kernel, all or none of them. Raises KernelRefuses."""
    _nft(*(("-c",) if only_try else ()), "-f", "-", stdin=text)


def listed(*what: str) -> list[dict[str, Any]]:
    """What nft lists, as its JSON has it (libnftables-json(5)); nothing if there is no such table.

    Raises KernelRefuses.
    """
    try:
        found = json.loads(_nft("-j", "list", *what) or "{}")
    except ValueError as error:
        raise KernelRefuses(f"nft does not say what there is ({error})") from error
    return [each for each in found.get("nftables", []) if "metainfo" not in each]


def _nft(*arguments: str, stdin: str = "") -> str:
    program = shutil.which("nft", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if program is None:
        raise KernelRefuses("there is no program nft; install the package nftables")
    try:
        done = subprocess.run([program, *arguments], input=stdin, capture_output=True, text=True, timeout=LONGEST)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelRefuses(f"nft does not run ({error})") from error
    if done.returncode:
        said = next((line.strip() for line in done.stderr.splitlines() if line.strip()), "it does not say why")
        raise KernelRefuses(f"nft refuses: {said}")
    return done.stdout


@contextmanager
def _refusal(what: str, *, unless_gone: bool = False) -> Iterator[None]:
    """`unless_gone`: it is no error that what was to be taken away is not there."""
    try:
        yield
    except NetlinkError as error:
        if unless_gone and error.code in _GONE:
            return
        raise KernelRefuses(f"{what} ({os.strerror(error.code) if error.code else error})") from error
    except OSError as error:
        raise KernelRefuses(f"{what} ({error.strerror or errno.errorcode.get(error.errno or 0, error)})") from error
