"""The dialect cardreader: network card readers beside copiers. Servers do not speak it to Locum: see `[[reader]]`."""

from __future__ import annotations

from appliance.config import ListenConfig, ReaderConfig, UpstreamConfig
from appliance.dialects.base import Listening, Parts, Port
from proxy.commands import Command
from proxy.dialects.cardreader.listener import ReaderListener
from proxy.dialects.cardreader.shared import Settings
from proxy.events import Channel, Moment
from proxy.link import Link
from proxy.upstream import Upstream


class CardReader:
    """See `appliance.dialects.base.Dialect`."""

    name = "cardreader"
    repeats_are_known = True

    def new_upstream(self, upstream: UpstreamConfig, link: Link, parts: Parts, at: Moment) -> Upstream:
        raise TypeError("no server is a card reader")

    def configure(self, flow: Upstream, upstream: UpstreamConfig, parts: Parts, at: Moment) -> list[Command]:
        raise TypeError("no server is a card reader")

    def channel_of(self, listen: ListenConfig) -> Channel:
        reader = _reader(listen)
        ends = (reader.bind, reader.port, reader.address, reader.reader_port, reader.server, reader.server_port)
        return ("reader", reader.device, *ends, int(reader.connects), reader.upstream, reader.records_to)

    def new_listener(self, listen: ListenConfig, parts: Parts) -> Listening:
        reader, channel = _reader(listen), self.channel_of(listen)
        upstream = parts.upstreams[reader.upstream]
        metered = parts.metered(reader.device, parts.upstreams[reader.records_to])
        flow = ReaderListener(channel, upstream, parts.site, parts.tally, _settings(reader), metered)
        port = Port(channel, reader.bind, reader.port, stream=True, own_address=True)
        return Listening(flow, (port,), upstream, flow, flow.stop)

    def configure_listener(self, listening: Listening, listen: ListenConfig, parts: Parts) -> None:
        flow = listening.flow
        if not isinstance(flow, ReaderListener):
            raise TypeError("this is no card reader")
        flow.configure(_settings(_reader(listen)))


DIALECT = CardReader()


def _reader(listen: ListenConfig) -> ReaderConfig:
    if not isinstance(listen, ReaderConfig):
        raise TypeError(f"{listen.bind} is no card reader")
    return listen


def _settings(reader: ReaderConfig) -> Settings:
    return Settings(
        device=reader.device,
        address=reader.address,
        port=reader.reader_port,
        server=reader.server,
        server_port=reader.server_port,
        connects=reader.connects,
        session_idle=reader.session_idle,
        rfideas=reader.rfideas,
    )
