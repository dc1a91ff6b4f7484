"""The dialect radius: RADIUS listeners, and RADIUS servers as upstreams."""

from __future__ import annotations

from appliance.config import Config, ListenConfig, RadiusListenConfig, RadiusUpstreamConfig, UpstreamConfig
from appliance.dialects.base import Listening, Parts, Port
from protocols.radius.accounting import JobMapping, mapping_from_names
from protocols.radius.dictionary import Dictionary, parse_dictionary, shipped_dictionary
from proxy.commands import Command
from proxy.dialects.radius.accounting import AccountingFlow
from proxy.dialects.radius.clients import Client, Clients
from proxy.dialects.radius.host import ACCT, AUTH, ProbeLogin
from proxy.dialects.radius.listener import RadiusListener
from proxy.dialects.radius.logins import LoginFlow
from proxy.dialects.radius.requests import Settings
from proxy.dialects.radius.towards import Towards, TowardsCards, TowardsRadius
from proxy.dialects.radius.upstream import RadiusUpstream
from proxy.events import Channel, Moment
from proxy.link import Link
from proxy.upstream import Upstream


class Radius:
    """See `appliance.dialects.base.Dialect`."""

    name = "radius"
    repeats_are_known = True

    def new_upstream(self, upstream: UpstreamConfig, link: Link, parts: Parts, at: Moment) -> RadiusUpstream:
        wanted = _radius(upstream)
        offline = parts.config.offline

        def fingerprint(address: str) -> str:
            settings = flow.settings
            told = f"{wanted.name}|{address}|{settings.auth_port}|{settings.accounting_port}|".encode()
            # In line the secrets are the devices', and each device's own requests prove its own.
            return parts.fingerprint(told + (settings.secret if parts.config.inline is None else b"in line"))

        flow = RadiusUpstream(
            wanted.name,
            link,
            _settings(wanted, parts.config),
            parts.tally,
            fingerprint,
            parts.proxy_state,
            offline.recover_after,
            offline.drain_window,
        )
        flow.clients = _all_clients(wanted.name, parts.config)
        flow.proven_by = set(parts.memories(f"proven:{wanted.name}:"))
        flow.signed_by = set(parts.memories(f"signs:{wanted.name}:"))
        for role, answered in flow.status_answered.items():
            answered.update(parts.memories(f"status-{role}:{wanted.name}:"))
        return flow

    def configure(self, flow: Upstream, upstream: UpstreamConfig, parts: Parts, at: Moment) -> list[Command]:
        if not isinstance(flow, RadiusUpstream):
            raise TypeError(f"{flow.name} is no RADIUS upstream")
        flow.recover_after = parts.config.offline.recover_after
        flow.clients = _all_clients(flow.name, parts.config)
        flow.outbox.window = parts.config.offline.drain_window
        return flow.configure(_settings(_radius(upstream), parts.config), at)

    def channel_of(self, listen: ListenConfig) -> Channel:
        radius = _listen(listen)
        ports = (radius.auth_port, radius.accounting_port)
        return ("listen", radius.bind, *ports, radius.upstream, radius.records_to)

    def new_listener(self, listen: ListenConfig, parts: Parts) -> Listening:
        radius, channel = _listen(listen), self.channel_of(listen)
        upstream, records_to = parts.upstreams[radius.upstream], parts.upstreams[radius.records_to]
        towards: Towards = TowardsRadius(upstream) if isinstance(upstream, RadiusUpstream) else TowardsCards(upstream)
        vendor_id = parts.config.radius.vendor_id
        logins = LoginFlow((*channel, AUTH), towards, parts.site, parts.tally, vendor_id)
        accounting = AccountingFlow(
            (*channel, ACCT),
            records_to,
            parts.site,
            parts.tally,
            _mapping(parts.config),
            logins_at=radius.upstream,
        )
        flow = RadiusListener(_clients(radius), logins, accounting, parts.tally, parts.proxy_state)
        ports = (
            Port(logins.channel, radius.bind, radius.auth_port),
            Port(accounting.channel, radius.bind, radius.accounting_port),
        )
        return Listening(flow, ports, upstream, logins)

    def configure_listener(self, listening: Listening, listen: ListenConfig, parts: Parts) -> None:
        flow = listening.flow
        if not isinstance(flow, RadiusListener):
            raise TypeError("this is no RADIUS listener")
        flow.configure(_clients(_listen(listen)))
        flow.accounting.mapping = _mapping(parts.config)
        flow.logins.vendor_id = parts.config.radius.vendor_id


DIALECT = Radius()


def _radius(upstream: UpstreamConfig) -> RadiusUpstreamConfig:
    if not isinstance(upstream, RadiusUpstreamConfig):
        raise TypeError(f"{upstream.name} is no RADIUS upstream")
    return upstream


def _listen(listen: ListenConfig) -> RadiusListenConfig:
    if not isinstance(listen, RadiusListenConfig):
        raise TypeError(f"{listen.bind} is no RADIUS listener")
    return listen


def _settings(upstream: RadiusUpstreamConfig, config: Config) -> Settings:
    """An upstream's settings, and the roles that the listeners give it."""
    roles = {AUTH for listen in config.listens if listen.upstream == upstream.name}
    roles |= {ACCT for listen in config.listens if listen.records_to == upstream.name}
    test = upstream.test_login
    return Settings(
        auth_port=upstream.auth_port,
        accounting_port=upstream.accounting_port,
        secret=upstream.secret.value,
        answer_timeout=upstream.answer_timeout,
        probe_interval=upstream.probe_interval,
        require_signature=upstream.require_message_authenticator,
        test_login=None if test is None else ProbeLogin(test.user.encode(), test.password.value),
        vendor_id=config.radius.vendor_id,
        roles=frozenset(roles or {AUTH}),
    )


def _clients(listen: RadiusListenConfig) -> list[Client]:
    return [
        Client(
            client.network,
            client.secret.value,
            client.role,
            client.require_message_authenticator,
            client.ignore_password_offline,
        )
        for client in listen.clients
    ]


def _all_clients(upstream: str, config: Config) -> Clients:
    """The devices of all listeners that lead to an upstream."""
    leading = [
        listen
        for listen in config.listens
        if isinstance(listen, RadiusListenConfig) and upstream in (listen.upstream, listen.records_to)
    ]
    return Clients([client for listen in leading for client in _clients(listen)])


def _mapping(config: Config) -> JobMapping:
    dictionary: Dictionary = shipped_dictionary()
    for path in config.radius.dictionary_files:
        dictionary = parse_dictionary(path.read_text(encoding="utf-8"), dictionary)
    return mapping_from_names(dictionary, config.radius.job, config.radius.vendor_id)
