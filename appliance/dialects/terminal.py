"""The dialect terminal: listeners for copier terminals, and servers that speak it as upstreams."""

from __future__ import annotations

import hashlib

from appliance.config import (
    Config,
    ListenConfig,
    TerminalListenConfig,
    TerminalUpstreamConfig,
    TlsConfig,
    UpstreamConfig,
)
from appliance.dialects.base import Listening, Parts, Port
from proxy.commands import Command, Tls
from proxy.dialects.terminal.listener import TerminalListener
from proxy.dialects.terminal.upstream import TerminalUpstream
from proxy.dialects.terminal.upstream_stream import Settings
from proxy.events import Channel, Moment
from proxy.link import Link
from proxy.upstream import Upstream


class Terminal:
    """See `appliance.dialects.base.Dialect`."""

    name = "terminal"
    repeats_are_known = True

    def new_upstream(self, upstream: UpstreamConfig, link: Link, parts: Parts, at: Moment) -> TerminalUpstream:
        wanted = _terminal(upstream)

        def fingerprint(address: str) -> str:
            settings = flow.settings
            tls = settings.tls
            told = f"{wanted.name}|{address}|{settings.port}|{'tls' if tls else ''}|".encode()
            return parts.fingerprint(told + (tls.ca + tls.certificate if tls else b""))

        flow = TerminalUpstream(
            wanted.name,
            link,
            _settings(wanted, parts.config),
            parts.tally,
            fingerprint,
            parts.config.offline.drain_window,
        )
        flow.proven_by = set(parts.memories(f"proven:{wanted.name}:"))
        return flow

    def configure(self, flow: Upstream, upstream: UpstreamConfig, parts: Parts, at: Moment) -> list[Command]:
        if not isinstance(flow, TerminalUpstream):
            raise TypeError(f"{flow.name} is no terminal upstream")
        flow.outbox.window = parts.config.offline.drain_window
        return flow.configure(_settings(_terminal(upstream), parts.config), at)

    def channel_of(self, listen: ListenConfig) -> Channel:
        wanted = _listen(listen)
        tls = wanted.tls
        # Other certificates make another listener: a port cannot change its own.
        mark = hashlib.sha256(tls.ca + tls.certificate + tls.key).hexdigest()[:16] if tls else ""
        return ("terminal", wanted.bind, wanted.port, wanted.upstream, wanted.records_to, mark)

    def new_listener(self, listen: ListenConfig, parts: Parts) -> Listening:
        wanted, channel = _listen(listen), self.channel_of(listen)
        upstream, records_to = parts.upstreams[wanted.upstream], parts.upstreams[wanted.records_to]
        flow = TerminalListener(channel, upstream, records_to, parts.site, parts.tally, name=parts.config.name)
        port = Port(channel, wanted.bind, wanted.port, stream=True, tls=tls_of(wanted.tls))
        return Listening(flow, (port,), upstream, flow, flow.stop)

    def configure_listener(self, listening: Listening, listen: ListenConfig, parts: Parts) -> None:
        flow = listening.flow
        if not isinstance(flow, TerminalListener):
            raise TypeError("this is no terminal listener")
        flow.configure(name=parts.config.name, heartbeat=flow.heartbeat)


DIALECT = Terminal()


def tls_of(tls: TlsConfig | None, name: str = "") -> Tls | None:
    """What the network is told of TLS; `name`: that of the server that is called."""
    return None if tls is None else Tls(name, tls.ca, tls.certificate, tls.key)


def _terminal(upstream: UpstreamConfig) -> TerminalUpstreamConfig:
    if not isinstance(upstream, TerminalUpstreamConfig):
        raise TypeError(f"{upstream.name} is no terminal upstream")
    return upstream


def _listen(listen: ListenConfig) -> TerminalListenConfig:
    if not isinstance(listen, TerminalListenConfig):
        raise TypeError(f"{listen.bind} is no terminal listener")
    return listen


def _settings(upstream: TerminalUpstreamConfig, config: Config) -> Settings:
    return Settings(
        port=upstream.port,
        tls=tls_of(upstream.tls, upstream.addresses[0]),
        answer_timeout=upstream.answer_timeout,
        probe_interval=upstream.probe_interval,
        appliance=config.name,
        recover_after=config.offline.recover_after,
    )
