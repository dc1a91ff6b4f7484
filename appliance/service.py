"""The running appliance, from start to orderly stop.

Start: state directory, ledger (what was in flight waits again), flows, ports, control socket, then the first probe.
SIGHUP reads the config anew, and a bad one leaves the old in force. SIGTERM and SIGINT stop: ports are closed, what is
asked of the writer is written, the ledger is signed and closed. The process around it is `starting.py`'s.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from appliance import __version__, witness
from appliance.assembly import Assembly, channel_of, forgetful
from appliance.clockwatch import ClockWatch
from appliance.config import Config, ConfigError, ListenConfig, UpstreamConfig, load
from appliance.control import Control, Refusal
from appliance.device_hands import DeviceHands
from appliance.hands import Hands
from appliance.heartbeat import Rounds
from appliance.inline.working import Working
from appliance.keeper import Keeper
from appliance.ledger_hands import LedgerHands
from appliance.log import Events
from appliance.notify import Supervisor
from appliance.reports import Reports
from appliance.retention import Retention
from appliance.snmp.working import CannotListen, Management
from appliance.state_dir import StateDirError, unlock_hash
from appliance.status import StatusBoard
from appliance.witness import MOST_MISSING, Witness
from proxy.commands import Keep, Tell
from proxy.events import Channel
from proxy.metering.agents import Agent
from proxy.net.driver import TICK, Driver, this_moment
from proxy.net.names import Names, is_numeric
from proxy.net.snmp.manager import SnmpManager
from storage import signed
from storage.database import open_reader
from storage.inheriting import settle_origin
from storage.ledger import Ledger
from storage.reader import Reader
from storage.records import Note
from storage.signing import Signer
from storage.space import SpaceWatch

events = Events("service")

BEAT_EVERY = 1.0
"""Seconds between beats of the heart, where only systemd listens to it; in line they come as fast as they go round."""


class CannotStart(Exception):
    """The service cannot start; the text is one line: what, where, what to do."""


class Service:
    """Everything that runs, held together. `codes`: the hashes of the unlock code and of the unlock card."""

    def __init__(
        self, reactor: Any, config: Config, ledger: Ledger, signer: Signer, key: bytes, codes: tuple[str, str]
    ) -> None:
        self.config = config
        self._reactor = reactor
        self._ledger = ledger
        self._signer = signer
        self._keeper = Keeper(ledger, SpaceWatch(config.state_dir))
        known = witness.newest(config.state_dir)
        self._words = [*ledger.words]
        heard_of = witness.heard_of(config.state_dir)
        self._words += settle_origin(ledger, signer, known, forgetful(config), this_moment().wall, heard_of)
        self._in_flight = ledger.settle_sent(this_moment().wall, forgetful(config))
        self._connection = open_reader(ledger.path)
        self._reader = Reader(ledger.path, self._connection)
        self._reports = Reports(reactor, config)
        in_line = config.inline is not None
        self.driver = Driver(reactor, self._keeper, tell, self._alarm, self._reports.observe, transparent=in_line)
        self.assembly = Assembly(config, self._connection, self._reader, key, this_moment(), *codes)
        self._board = StatusBoard(self.assembly, self._connection, ledger.path, self._keeper, self._losses)
        self._management = Management(config, self.driver, self.assembly, self._board, self._reader, key)
        self._hands = Hands(self.assembly, self.driver, self._board, self._connection)
        devices = DeviceHands(self.assembly, self.driver, lambda name: _unlock_hash(self.config.state_dir, name))
        by_hand = {
            **self._hands.handlers(),
            **devices.handlers(),
            **LedgerHands(self.driver, self.assembly.site.forget, self._hands.waits).handlers(),
        }
        handlers = {
            **by_hand,
            "listeners": lambda request, who: self._ports(),
            "meters-read": lambda request, who: self.assembly.metering.shown(),
        }
        self._control = Control(reactor, config.state_dir, handlers)
        self._names = Names(reactor, self._resolved, self._unresolved)
        self._rounds = Rounds(reactor, self.driver, self._keeper, BEAT_EVERY if config.inline is None else 0.0)
        self._supervisor = Supervisor()
        self._snmp = SnmpManager(reactor, self.driver.dispatch, this_moment)
        self.driver.read_meters = self._snmp.read
        self._in_line: Working | None = None
        self._clock = ClockWatch()
        self._retention = Retention(_kept_for(config))
        self._witness = Witness(config.state_dir, ledger.new_checkpoints, lambda: ledger.head, this_moment())
        self._tick: Any = None
        self._stopping = False

    def start(self) -> None:
        """Bind, say so, and begin. Raises CannotStart."""
        # Sockets for frames take the kernel long to end. When this process is killed, those that were made last end
        # first: the listeners, so that who is new is passed on at once.
        if self.config.inline is not None:
            try:
                self._in_line = Working(self.config, self.config.inline, self.driver, self._reader)
            except OSError as error:
                raise CannotStart(f"[inline] cannot stand in line: {error.strerror}; {_advice(error)}") from error
        for listen in self.config.listens:
            self._listen(listen)
        try:
            self._management.open()
        except CannotListen as error:
            raise CannotStart(
                f"cannot listen on {error.where}: {error.error.strerror}; {_advice(error.error)}"
            ) from error
        try:
            self._control.open()
        except OSError as error:
            where = self.config.state_dir
            raise CannotStart(f"{where}: the control socket cannot be made ({error.strerror}); check owner") from error
        try:
            self._reports.open(self._board.status)
        except OSError as error:
            raise CannotStart(f"[metrics] cannot listen: {error.strerror}; {_advice(error)}") from error
        try:
            self._rounds.open()
        except OSError as error:
            raise CannotStart(f"no port of our own on the loopback interface: {error.strerror}; set lo up") from error
        self.driver.writer.start()
        self._say_started()
        self._reach(self.config)
        for channel in self.assembly.listeners:
            self._open(channel)
        self._snmp.configure(_agents(self.config))
        self._management.start()
        self.driver.flows[:] = self._flows()
        for number, action in ((signal.SIGTERM, self.stop), (signal.SIGINT, self.stop), (signal.SIGHUP, self.reload)):
            signal.signal(number, lambda *_, do=action: self._reactor.callFromThread(do))
        self._tick = self._reactor.callLater(0, self._ticked)
        self._supervisor.ready()
        events.info("ready", name=self.config.name, version=__version__, config=self.config.path)

    def abandon(self) -> None:
        """Give up a start that failed."""
        self._rounds.close()
        self.driver.close()
        self._control.close()
        self._reports.stop()
        self._connection.close()
        self._ledger.close()

    def stop(self) -> None:
        """Orderly: nothing new is read, everything asked of the writer is written, then the reactor ends."""
        if self._stopping:
            return
        self._stopping = True
        self._supervisor.stopping()
        events.info("stopping")
        if self._tick is not None and self._tick.active():
            self._tick.cancel()
        self._control.close()
        self._rounds.close()
        self._snmp.close()
        self.driver.close()
        self.driver.run(self.assembly.site.gaps.note(this_moment()))
        self.driver.writer.keep(Keep(Note(this_moment().wall, "stop", {"version": __version__})))
        self.driver.writer.stop()
        self._connection.close()
        self._ledger.close(this_moment().wall)
        self.driver.run(self._witness.carry(this_moment()))
        self._reports.stop()
        # One turn of the reactor for what the connections have taken.
        self._reactor.callLater(0, self._reactor.callLater, 0, self._reactor.stop)

    def reload(self) -> None:
        """SIGHUP: take over the config file as it is now, or say what is wrong with it and go on as before."""
        self._supervisor.reloading(this_moment().now)
        try:
            self._take_over()
        finally:
            self._supervisor.ready()

    def _take_over(self) -> None:
        try:
            config = load(self.config.path)
            self._check_reload(config)
            bound = self._bind_new(config)
            self._report(config)
        except (ConfigError, CannotStart, OSError, UnicodeDecodeError) as error:
            for line in str(error).splitlines():
                self._say("error", f"the config was not taken over: {line}")
            return
        moment = this_moment()
        for channel in self._going(config):
            self.driver.run(self.assembly.drop_listener(channel, moment))
        for name in self.assembly.upstreams.keys() - {upstream.name for upstream in config.upstreams}:
            self.driver.run(self.assembly.upstreams[name].reach([], moment))
        self.driver.run(self.assembly.reconfigure(config, moment))
        self.config = config
        self._retention.configure(_kept_for(config))
        self._snmp.configure(_agents(config))
        self._management.configure(config)
        self._reach(config)
        for channel in bound:
            self._open(channel)
        self.driver.flows[:] = self._flows()
        self.driver.writer.keep(Keep(Note(moment.wall, "config", {"config": config.digest})))
        self._say("info", "the config was taken over")

    def _report(self, config: Config) -> None:
        try:
            self._reports.configure(config)
        except OSError as error:
            self._say("error", f"[metrics] stays where it was: {error.strerror}; {_advice(error)}")

    def _ports(self) -> list[dict[str, Any]]:
        """What this Locum listens on: the answer to `listeners`."""
        ports = [port for listening in self.assembly.listeners.values() for port in listening.ports]
        told = [(port.address, port.number, "tcp" if port.stream else "udp") for port in ports]
        told += self._management.ports
        figures = self._reports.figures_at
        if figures is not None:
            told.append((figures.bind, figures.port, "tcp"))
        return [{"address": address, "port": number, "kind": kind} for address, number, kind in told]

    def _alarm(self, line: Tell) -> None:
        self._reports.alarm(line)
        self._management.alarm(line)

    def _losses(self) -> dict[str, int]:
        return {**self.driver.losses(), **self._reports.losses(), **self._snmp.counts}

    def _check_reload(self, config: Config) -> None:
        if (config.name, config.state_dir) != (self.config.name, self.config.state_dir):
            raise CannotStart(f"{config.path}: name and state_dir change at a restart only")
        if config.inline != self.config.inline:
            raise CannotStart(f"{config.path}: [inline] changes at a restart only")
        if config.management != self.config.management:
            raise CannotStart(f"{config.path}: [snmp.agent], [snmp.proxy] and [snmp.traps] change at a restart only")
        kept = {upstream.name for upstream in config.upstreams}
        for name, flow in self.assembly.upstreams.items():
            if name not in kept and not flow.empty:
                raise CannotStart(f"{config.path}: upstream '{name}' cannot be removed while records wait for it")

    def _bind_new(self, config: Config) -> list[Channel]:
        """Bind the listeners that are new, all or none."""
        new = [listen for listen in config.listens if channel_of(listen) not in self.assembly.listeners]
        going = self._going(config)
        for listen in new:
            for name in (listen.upstream, listen.records_to):
                if name not in self.assembly.upstreams:
                    raise CannotStart(f"{config.path}: a listener for the new upstream '{name}' needs a restart")
        bound: list[Channel] = []
        for channel in going:
            self._close_ports(channel)
        try:
            for listen in new:
                bound.append(self._listen(listen))
        except CannotStart:
            for channel in bound:
                self._close_ports(channel)
                self.assembly.drop_listener(channel, this_moment())
            for listen in self.config.listens:
                if channel_of(listen) in going:
                    self.assembly.drop_listener(channel_of(listen), this_moment())
                    self._open(self._listen(listen))
            self.driver.flows[:] = self._flows()
            raise
        return bound

    def _going(self, config: Config) -> list[Channel]:
        """The listeners that this config has no more; their ports may be another's now."""
        staying = {channel_of(listen) for listen in config.listens}
        return [channel for channel in self.assembly.listeners if channel not in staying]

    def _close_ports(self, channel: Channel) -> None:
        for port in self.assembly.listeners[channel].ports:
            self.driver.stop_listening(port.channel)

    def _listen(self, listen: ListenConfig) -> Channel:
        channel, listening = self.assembly.new_listener(listen)
        for opened, port in enumerate(listening.ports):
            try:
                if port.stream:
                    own = port.own_address
                    self.driver.listen_stream(
                        port.channel, listening.flow, port.address, port.number, port.tls, own_address=own
                    )
                else:
                    self.driver.listen(port.channel, listening.flow, port.address, port.number)
            except OSError as error:
                for other in listening.ports[:opened]:
                    self.driver.stop_listening(other.channel)
                listening.upstream.subscribers.remove(listening.subscriber)
                raise CannotStart(f"cannot listen on {port}: {error.strerror}; {_advice(error)}") from error
        self.assembly.listeners[channel] = listening
        return channel

    def _open(self, channel: Channel) -> None:
        for port in self.assembly.listeners[channel].ports:
            self.driver.open_for_devices(port.channel)

    def _flows(self) -> list[Any]:
        listeners = [listening.flow for listening in self.assembly.listeners.values()]
        in_line = self._in_line.flows if self._in_line is not None else []
        flows = [self.assembly.site, *self.assembly.upstreams.values(), *listeners]
        return [*flows, self.assembly.metering, *self._management.flows, *in_line]

    def _reach(self, config: Config) -> None:
        """Give each upstream its addresses: those that are numbers, and what the names resolved to last."""
        self._names.watch(
            {name for upstream in config.upstreams for name in upstream.addresses if not is_numeric(name)}
        )
        for upstream in config.upstreams:
            self._reach_one(upstream)
        self._guard(config)

    def _reach_one(self, upstream: UpstreamConfig) -> None:
        self.driver.run(self.assembly.upstreams[upstream.name].reach(self._addresses(upstream), this_moment()))

    def _addresses(self, upstream: UpstreamConfig) -> list[str]:
        found: list[str] = []
        for each in upstream.addresses:
            found += [each] if is_numeric(each) else self._hands.addresses_of(each)
        return list(dict.fromkeys(found))

    def _guard(self, config: Config) -> None:
        if self._in_line is not None:
            addresses = {upstream.name: self._addresses(upstream) for upstream in config.upstreams}
            self._in_line.guard(config, self.assembly.upstreams, addresses.__getitem__)

    def _resolved(self, name: str, addresses: list[str]) -> None:
        if self._stopping or not self._hands.learn(name, addresses):
            return
        self.driver.run([self._hands.remember(name)])
        for upstream in self.config.upstreams:
            if name in upstream.addresses:
                self._reach_one(upstream)
        self._guard(self.config)

    def _unresolved(self, name: str, why: str) -> None:
        if self._stopping:
            return
        moment = this_moment()
        self.driver.run(self.assembly.tally.note("name", name, f"the name {name} does not resolve ({why})", moment.now))
        for upstream in self.config.upstreams:
            if name in upstream.addresses:
                flow = self.assembly.upstreams[upstream.name]
                self.driver.run(flow.unreachable(f"the name {name} does not resolve", moment))

    def _ticked(self) -> None:
        self._tick = self._reactor.callLater(TICK, self._ticked)
        self.driver.tick()
        moment = this_moment()
        if self._rounds.tick(moment):
            self._supervisor.alive(moment.now)
            if self._in_line is not None:
                self._in_line.beats(moment)
        self._names.tick(moment.now)
        self.driver.run(self._clock.look(moment))
        self.driver.run(self._witness.look(moment))
        self.driver.run(self._retention.due(moment))
        if self._keeper.looks_again(moment.now):
            self.driver.writer.look()
        self._hands.storage_said(self._keeper, moment)

    def _say_started(self) -> None:
        moment = this_moment()
        keep = self.driver.writer.keep
        note: dict[str, str | int] = {
            "version": __version__,
            "config": self.config.digest,
            "in_flight": len(self._in_flight),
        }
        key_notes = signed.key_notes(self._connection, self._signer, moment.wall)
        for each in (Note(moment.wall, "start", note), *key_notes, *self.assembly.notes):
            keep(Keep(each))
        self.driver.run(self._witness.catch_up(signed.last(self._connection, MOST_MISSING), moment))
        for words in self._words:
            self._say("warning", words)
        self._say_in_flight()
        for upstream, waiting in self._hands.forsaken().items():
            where = f"{waiting} in the outbox for upstream '{upstream}'"
            text = f"{where}, which is not in the config; put it back, or drop them"
            self._say("error", text)

    def _say_in_flight(self) -> None:
        doubtful = set(forgetful(self.config))
        doubted = sum(upstream in doubtful for _, upstream in self._in_flight)
        again = len(self._in_flight) - doubted
        if again:
            many = "record was" if again == 1 else "records were"
            text = f"{again} {many} in flight when Locum stopped; sent again, and named in the ledger"
            self._say("warning", text)
        if doubted:
            many = "record was" if doubted == 1 else "records were"
            text = f"{doubted} {many} being sent when Locum stopped, and may stand at the server: 'locum outbox list'"
            self._say("error", text, "in-doubt")

    def _say(self, level: str, text: str, alarm: str = "") -> None:
        self.driver.run([Tell(level, text, alarm=alarm)])


def _agents(config: Config) -> Mapping[str, Agent]:
    return config.snmp.agents if config.snmp is not None else {}


def _unlock_hash(state_dir: Path, name: str) -> str:
    """The hash of the unlock code or card as it is now. Raises Refusal."""
    try:
        return unlock_hash(state_dir, name)
    except StateDirError as error:
        raise Refusal(str(error)) from error


def _kept_for(config: Config) -> int | None:
    """Milliseconds that personal data is kept for; None: for ever."""
    kept = config.ledger.keep_personal
    return None if kept is None else int(kept * 1000)


def tell(line: Tell) -> None:
    """A line for the admin, to the log."""
    getattr(events, line.level)(line.text, **line.context)


def _advice(error: OSError) -> str:
    if error.errno == 98:
        return "another program has it: end that one, or choose another port"
    if error.errno == 1:
        return "run: systemctl daemon-reload && systemctl restart locum"
    if error.errno == 13:
        return "ports below 1024 need the capability CAP_NET_BIND_SERVICE"
    return "check 'bind' in [[listen]]"
