"""The dialect papercut: PaperCut servers as upstreams. Devices do not speak it."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from appliance.config import ListenConfig, PapercutUpstreamConfig, UpstreamConfig
from appliance.dialects.base import Listening, Parts
from appliance.dialects.terminal import tls_of
from proxy.commands import Command
from proxy.dialects.papercut.settings import Settings
from proxy.dialects.papercut.upstream import PapercutUpstream
from proxy.events import Channel, Moment
from proxy.link import Link
from proxy.upstream import Upstream

STANDARD_PORTS = (80, 443)


class Papercut:
    """See `appliance.dialects.base.Dialect`."""

    name = "papercut"
    repeats_are_known = False

    def new_upstream(self, upstream: UpstreamConfig, link: Link, parts: Parts, at: Moment) -> PapercutUpstream:
        wanted = _papercut(upstream)

        def fingerprint(address: str) -> str:
            settings = flow.settings
            tls = settings.tls
            told = f"{wanted.name}|{address}|{settings.host}|{settings.port}|{settings.path}|{settings.token}|".encode()
            return parts.fingerprint(told + (b"tls" + tls.ca if tls else b""))

        flow = PapercutUpstream(
            wanted.name,
            link,
            _settings(wanted, parts),
            parts.tally,
            fingerprint,
            parts.hash_of,
            parts.memory(f"claim:{wanted.name}") or "",
            parts.config.offline.recover_after,
            wanted.drain_window,
        )
        flow.proven_by = set(parts.memories(f"proven:{wanted.name}:"))
        return flow

    def configure(self, flow: Upstream, upstream: UpstreamConfig, parts: Parts, at: Moment) -> list[Command]:
        wanted = _papercut(upstream)
        if not isinstance(flow, PapercutUpstream):
            raise TypeError(f"{flow.name} is no PaperCut upstream")
        flow.recover_after = parts.config.offline.recover_after
        flow.outbox.window = wanted.drain_window
        return flow.configure(_settings(wanted, parts), at)

    def channel_of(self, listen: ListenConfig) -> Channel:
        raise TypeError("no device speaks papercut")

    def new_listener(self, listen: ListenConfig, parts: Parts) -> Listening:
        raise TypeError("no device speaks papercut")

    def configure_listener(self, listening: Listening, listen: ListenConfig, parts: Parts) -> None:
        raise TypeError("no device speaks papercut")


DIALECT = Papercut()


def _papercut(upstream: UpstreamConfig) -> PapercutUpstreamConfig:
    if not isinstance(upstream, PapercutUpstreamConfig):
        raise TypeError(f"{upstream.name} is no PaperCut upstream")
    return upstream


def _settings(upstream: PapercutUpstreamConfig, parts: Parts) -> Settings:
    bracketed = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
    return Settings(
        host=bracketed if upstream.port in STANDARD_PORTS else f"{bracketed}:{upstream.port}",
        port=upstream.port,
        token=upstream.token.value.decode(),
        time_zone=ZoneInfo(upstream.time_zone),
        appliance=parts.config.name,
        printers=lambda device: parts.site.printers.get(device, device),
        path=upstream.path,
        tls=tls_of(upstream.tls, upstream.host),
        answer_timeout=upstream.answer_timeout,
        probe_interval=upstream.probe_interval,
        card_regex=upstream.card_regex,
        card_converters=upstream.card_converters,
        unknown_username=parts.config.offline.unknown_username,
    )
