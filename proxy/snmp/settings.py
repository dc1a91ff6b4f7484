"""How the SNMP ports towards the management side are set up, as values that cost nothing to import."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.metering.agents import User


@dataclass(frozen=True, slots=True)
class Access:
    """Who may ask at a port: users by SNMPv3, communities by SNMPv2c."""

    users: tuple[User, ...] = ()
    communities: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """`max_age`: seconds for which an answer is given from memory. `last`: whether a silent copier's last answer is
    given. `writes`: whether SET is passed on.
    """

    max_age: float = 30.0
    last: bool = True
    writes: bool = False


@dataclass(frozen=True, slots=True)
class TrapSettings:
    """`server`: where traps go. `communities`: those that are taken; empty: all. `most`: how many may wait. `rate`: how
    many a second are taken, with bursts of ten times as many.
    """

    server: str
    port: int = 162
    communities: tuple[bytes, ...] = field(default=(), repr=False)
    most: int = 10_000
    rate: float = 50.0
