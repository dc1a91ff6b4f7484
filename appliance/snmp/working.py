"""Agent, proxy and trap store as the service runs them: built once at start, from the configuration and the ledger."""

from __future__ import annotations

import hashlib
from typing import Any

from appliance.assembly import Assembly
from appliance.config import Config, SnmpAgentConfig, SnmpProxyConfig, SnmpTrapsConfig
from appliance.snmp import figures
from appliance.snmp.notifying import Notifier
from appliance.state_dir import next_boots
from appliance.status import StatusBoard, instant
from protocols.errors import ProtocolError
from proxy.commands import Tell
from proxy.events import Channel, Flow, Moment
from proxy.link import State
from proxy.net.driver import Driver, this_moment
from proxy.snmp.agent import AgentFlow
from proxy.snmp.copier import CopierProxy
from proxy.snmp.engine import LARGEST, Engine
from proxy.snmp.settings import Access
from proxy.snmp.traps import TrapStore, Waiting, inform_of
from proxy.snmp.tree import Tree
from storage.reader import Reader

AGENT: Channel = ("snmp", "agent")
LONGEST_UNNOTICED = 60.0
"""Seconds; a longer probe_interval makes no trap wait longer for its end."""
_ENTERPRISE = (0x80000000 | 8072).to_bytes(4, "big")
_OCTETS = b"\x05"
"""That the rest of the engine's name is octets of our choice (RFC 3411, SnmpEngineID)."""


class CannotListen(Exception):
    """A port cannot be bound; `where` names it, `error` is the system's."""

    def __init__(self, where: str, error: OSError) -> None:
        super().__init__(f"{where}: {error.strerror}")
        self.where = where
        self.error = error


class Management:
    """`key`: of this installation, by which its engine has a name of its own."""

    def __init__(
        self, config: Config, driver: Driver, assembly: Assembly, board: StatusBoard, reader: Reader, key: bytes
    ) -> None:
        self.flows: list[Flow] = []
        self._driver = driver
        self._assembly = assembly
        self._board = board
        self._channels: list[tuple[Channel, Flow, str, int]] = []
        self._proxies: list[tuple[CopierProxy, int]] = []
        self._traps: TrapStore | None = None
        self._notifier: Notifier | None = None
        board.management = self.shown
        wanted = config.management
        if wanted.agent is None and wanted.proxy is None and wanted.traps is None:
            return
        self._engine_id = engine_id(key)
        self._began = this_moment()
        self._boots = next_boots(config.state_dir) if wanted.agent is not None or wanted.proxy is not None else 0
        if wanted.proxy is not None:
            self._new_proxies(wanted.proxy, config)
        if wanted.traps is not None:
            self._new_traps(wanted.traps, reader)
        if wanted.agent is not None:
            self._new_agent(wanted.agent)

    def open(self) -> None:
        """Bind all ports. Raises CannotListen."""
        for channel, flow, address, port in self._channels:
            try:
                self._driver.listen(channel, flow, address, port, LARGEST, own_address=True)
            except OSError as error:
                raise CannotListen(f"{address} port {port} (SNMP)", error) from error

    def start(self) -> None:
        """Begin: ways to the other sides, then the ports are read."""
        for proxy, _ in self._proxies:
            self._driver.run(proxy.way())
        if self._traps is not None:
            self._driver.run(self._traps.way())
        if self._notifier is not None:
            self._driver.run(self._notifier.ways())
        for channel, *_ in self._channels:
            self._driver.open_for_devices(channel)

    def configure(self, config: Config) -> None:
        """A reload: copiers may be asked another way; nothing else of this changes."""
        agents = config.snmp.agents if config.snmp is not None else {}
        for proxy, _ in self._proxies:
            self._driver.run(proxy.reconfigure(agents[proxy.device], this_moment()))

    def alarm(self, tell: Tell) -> None:
        """A line that leaves the box at once."""
        if self._notifier is not None:
            self._driver.run(self._notifier.told(tell, this_moment()))

    def shown(self) -> dict[str, Any]:
        """The keys of `locum status --json` that are about SNMP."""
        traps = self._traps
        return {
            "proxied": [
                {
                    "device": proxy.device,
                    "port": port,
                    "silent": proxy.silent,
                    "answered_at": instant(proxy.figures.heard),
                    "asked": proxy.figures.asked,
                    "from_memory": proxy.figures.from_memory,
                    "unanswered": proxy.figures.unanswered,
                }
                for proxy, port in self._proxies
            ],
            "traps": None
            if traps is None
            else {"waiting": traps.waiting, "kept": traps.kept, "forwarded": traps.forwarded},
        }

    @property
    def ports(self) -> list[tuple[str, int, str]]:
        """What it listens on: address, port, kind."""
        return [(address, port, "udp") for _, _, address, port in self._channels]

    def _engine(self, access: Access) -> Engine:
        return Engine(self._engine_id, self._boots, self._began, access)

    def _new_agent(self, wanted: SnmpAgentConfig) -> None:
        engine = self._engine(wanted.access)
        agent = AgentFlow(engine, lambda at: self._tree(engine, at), self._assembly.tally)
        self._add(AGENT, agent, wanted.bind, wanted.port)
        if wanted.notify:
            user = wanted.access.users[0].name if wanted.notify_v3 else ""
            community = b"" if user else wanted.access.communities[0]
            self._notifier = Notifier(engine, wanted.notify, user, community)

    def _new_proxies(self, wanted: SnmpProxyConfig, config: Config) -> None:
        agents = config.snmp.agents if config.snmp is not None else {}
        for device, bind, port in wanted.copiers:
            engine = self._engine(wanted.access)
            tally = self._assembly.tally
            proxy = CopierProxy(device, engine, agents[device], wanted.settings, tally, self._began)
            self._proxies.append((proxy, port))
            self._add(proxy.front, proxy, bind, port)

    def _new_traps(self, wanted: SnmpTrapsConfig, reader: Reader) -> None:
        upstream = self._assembly.upstreams[wanted.upstream]
        settings = next(each for each in self._assembly.config.upstreams if each.name == wanted.upstream)
        unnoticed = min(settings.probe_interval + 2 * settings.answer_timeout, LONGEST_UNNOTICED)
        there = (State.ONLINE, State.RECOVERING)
        self._traps = TrapStore(
            wanted.settings,
            lambda: upstream.link.state in there,
            self._assembly.tally,
            self._device_of,
            unnoticed,
            waiting(reader, wanted.settings.most),
        )
        self._add(self._traps.front, self._traps, wanted.bind, wanted.port)

    def _add(self, channel: Channel, flow: Flow, address: str, port: int) -> None:
        self.flows.append(flow)
        self._channels.append((channel, flow, address, port))

    def _tree(self, engine: Engine, at: Moment) -> Tree:
        status, devices = self._board.status(), self._board.devices()
        return figures.tree(status, devices, self._proxies, self._traps, engine.uptime(at), at)

    def _device_of(self, address: str) -> str:
        """The device that has this address, "" if none or several have."""
        config = self._assembly.config
        agents = config.snmp.agents if config.snmp is not None else {}
        found = {name for name, agent in agents.items() if agent.address == address}
        found |= {device.id for device in config.devices if device.address == address}
        found = found or {name for name, seen in self._assembly.site.seen.items() if seen.client == address}
        return found.pop() if len(found) == 1 else ""


def engine_id(key: bytes) -> bytes:
    """The name of this installation's SNMP engine, 21 octets."""
    return _ENTERPRISE + _OCTETS + hashlib.blake2b(b"snmp engine", digest_size=16, key=key[:64]).digest()


def waiting(reader: Reader, most: int) -> list[Waiting]:
    """The traps that an earlier run of Locum left, in order."""
    found: list[Waiting] = []
    for seq, at, client, version, kind, raw in reader.traps_waiting(most):
        try:
            found.append(Waiting(seq, raw, client, at, inform_of(version, kind, raw), True))
        except ProtocolError:
            continue  # no Locum keeps such a one; whoever put it there has to look at it
    return found
