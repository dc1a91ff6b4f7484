"""The steps into the line, as values: each can be said, taken, and taken back, by another process too.

What a step changed that was there before (a setting's old value, whether an interface was up) is written down when it
is taken, so that taking it back leaves what was found. Only what a step made is ever removed.
"""

from __future__ import annotations

import msgspec

from appliance.inline import rules, tags
from appliance.inline.kernel import Kernel, listed, load_rules, set_setting, setting


class _Step(msgspec.Struct):
    @property
    def wire(self) -> bool:
        """Whether the way between the interfaces needs it: a plain bridge has these steps alone."""
        return False

    def look(self, kernel: Kernel) -> None:
        """Note what is there before the step is taken."""

    def holds(self, kernel: Kernel) -> bool:
        """Whether it is in force now."""
        raise NotImplementedError


class Setting(_Step, tag="setting"):
    """A value below /proc/sys. `old`: what it was before; None: it comes and goes with its interface."""

    key: str
    value: str
    old: str | None = None

    @property
    def wire(self) -> bool:
        return "bridge-nf" in self.key or "disable_ipv6" in self.key

    @property
    def words(self) -> str:
        return f"sysctl -w {self.key}={self.value}"

    def look(self, kernel: Kernel) -> None:
        self.old = setting(self.key)

    def holds(self, kernel: Kernel) -> bool:
        return setting(self.key) == self.value

    def take(self, kernel: Kernel) -> None:
        if setting(self.key) != self.value:
            set_setting(self.key, self.value)

    def take_back(self, kernel: Kernel) -> None:
        if self.old is not None and setting(self.key) == self.value != self.old:
            set_setting(self.key, self.old)


class MakeBridge(_Step, tag="bridge"):
    """A bridge without an address of its own."""

    name: str
    mac: str

    @property
    def wire(self) -> bool:
        return True

    @property
    def words(self) -> str:
        return f"ip link add {self.name} address {self.mac} arp off type bridge stp_state 0 forward_delay 0"

    def holds(self, kernel: Kernel) -> bool:
        found = kernel.interface(self.name)
        return found is not None and found.kind == "bridge" and found.mac == self.mac

    def take(self, kernel: Kernel) -> None:
        kernel.add_bridge(self.name, self.mac)

    def take_back(self, kernel: Kernel) -> None:
        if self.holds(kernel):
            kernel.delete_link(self.name)


class Join(_Step, tag="join"):
    """An interface becomes a port of the bridge."""

    name: str
    bridge: str
    was_up: bool = False

    @property
    def wire(self) -> bool:
        return True

    @property
    def words(self) -> str:
        return f"ip link set {self.name} master {self.bridge} up"

    def look(self, kernel: Kernel) -> None:
        found = kernel.interface(self.name)
        self.was_up = found is not None and found.up

    def holds(self, kernel: Kernel) -> bool:
        found = kernel.interface(self.name)
        return found is not None and found.up and found.master == self.bridge

    def take(self, kernel: Kernel) -> None:
        kernel.join(self.name, self.bridge)
        kernel.set_up(self.name, True)

    def take_back(self, kernel: Kernel) -> None:
        found = kernel.interface(self.name)
        if found is None or found.master != self.bridge:
            return
        kernel.join(self.name, "")
        if not self.was_up:
            kernel.set_up(self.name, False)


class SetUp(_Step, tag="up"):
    """The bridge begins to forward."""

    name: str

    @property
    def wire(self) -> bool:
        return True

    @property
    def words(self) -> str:
        return f"ip link set {self.name} up"

    def holds(self, kernel: Kernel) -> bool:
        found = kernel.interface(self.name)
        return found is not None and found.up

    def take(self, kernel: Kernel) -> None:
        kernel.set_up(self.name, True)

    def take_back(self, kernel: Kernel) -> None:
        """It goes with the bridge."""


class Route(_Step, tag="route"):
    """The one route of a table."""

    version: int
    table: int
    device: str
    local: bool = False

    @property
    def words(self) -> str:
        kind = "local " if self.local else ""
        return f"ip -{self.version} route add {kind}default dev {self.device} table {self.table}"

    def holds(self, kernel: Kernel) -> bool:
        return kernel.has_route(self.version, self.table)

    def take(self, kernel: Kernel) -> None:
        kernel.route("add", self.version, self.table, self.device, local=self.local)

    def take_back(self, kernel: Kernel) -> None:
        if kernel.interface(self.device) is not None:
            kernel.route("del", self.version, self.table, self.device, local=self.local)


class Rule(_Step, tag="rule"):
    """Which packets look into a table. `leaving`: those that are to leave by the device, not those that come by it."""

    version: int
    table: int
    priority: int
    device: str
    mark: int | None = None
    leaving: bool = False

    @property
    def words(self) -> str:
        mark = f" fwmark {self.mark:#x}" if self.mark is not None else ""
        which = f"{'oif' if self.leaving else 'iif'} {self.device}{mark}"
        return f"ip -{self.version} rule add priority {self.priority} {which} lookup {self.table}"

    def holds(self, kernel: Kernel) -> bool:
        return kernel.has_rule(self.version, self.table, self.priority, self.device)

    def take(self, kernel: Kernel) -> None:
        kernel.rule("add", self.version, self.table, self.priority, self._which)

    def take_back(self, kernel: Kernel) -> None:
        kernel.rule("del", self.version, self.table, self.priority, self._which)

    @property
    def _which(self) -> dict[str, str | int]:
        which: dict[str, str | int] = {"oifname" if self.leaving else "iifname": self.device}
        return which if self.mark is None else {**which, "fwmark": self.mark}


class Tags(_Step, tag="tags"):
    """The bridge takes VLAN tags off and puts them on."""

    bridge: str

    @property
    def words(self) -> str:
        hooks = zip(("ingress", "egress"), tags.PROGRAMS, strict=True)
        filters = [
            f"tc filter add dev {self.bridge} {hook} bpf direct-action  # {name}, {len(program)} instructions of eBPF"
            for hook, (name, program) in hooks
        ]
        return "\n".join([f"tc qdisc add dev {self.bridge} clsact", *filters])

    def holds(self, kernel: Kernel) -> bool:
        return sorted(kernel.attached(self.bridge)) == sorted(name for name, _ in tags.PROGRAMS)

    def take(self, kernel: Kernel) -> None:
        kernel.attach(self.bridge, tags.PROGRAMS)

    def take_back(self, kernel: Kernel) -> None:
        kernel.detach(self.bridge)


class Rules(_Step, tag="rules"):
    """The rules of nftables."""

    text: str

    @property
    def words(self) -> str:
        return f"nft -f - <<RULES\n{self.text}RULES"

    def holds(self, kernel: Kernel) -> bool:
        there = {(each["table"]["family"], each["table"]["name"]) for each in listed("tables") if "table" in each}
        return all((family, rules.TABLE) in there for family in rules.families(self.text))

    def take(self, kernel: Kernel) -> None:
        load_rules(self.text)

    def take_back(self, kernel: Kernel) -> None:
        load_rules(rules.without())


Step = Setting | MakeBridge | Join | SetUp | Route | Rule | Tags | Rules
