"""Whether each server can be reached, with the question of its dialect.

A bridge in line may have no way of its own to a server: the running Locum asks it in the copiers' names. Then there is
nothing to try from here.
"""

import socket
from collections.abc import Generator, Iterator

from appliance.check import papercut, radius, terminal
from appliance.check.findings import Finding, error, warning
from appliance.check.reach import resolved
from appliance.config import (
    Config,
    PapercutUpstreamConfig,
    RadiusUpstreamConfig,
    TerminalUpstreamConfig,
    UpstreamConfig,
)


def findings(config: Config) -> Iterator[Finding]:
    for upstream in config.upstreams:
        if config.inline is not None and config.inline.mode == "bridge" and not _has_way_to(upstream):
            text = "not tried: a bridge has no address of its own; what the running Locum hears of it: locum status"
            yield warning(f"upstream {upstream.name}", text)
            continue
        reached = yield from _upstream(upstream, config)
        if not reached and not isinstance(upstream, PapercutUpstreamConfig):  # its one address has said why
            text = "no address of it answered for logins; until one does, nobody is let in for it"
            yield error(f"upstream {upstream.name}", text)


def _has_way_to(upstream: UpstreamConfig) -> bool:
    """Whether this machine has a route to any address of a server, or cannot know."""
    for host in upstream.addresses:
        addresses = resolved(host)
        if isinstance(addresses, Finding) or any(_has_route(address) for address in addresses):
            return True
    return False


def _has_route(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as towards:
            towards.connect((address, 9))  # sends nothing
    except OSError:
        return False
    return True


def _upstream(upstream: UpstreamConfig, config: Config) -> Generator[Finding, None, bool]:
    """Ask one server; returns whether it answers logins."""
    match upstream:
        case RadiusUpstreamConfig():
            return (yield from radius.findings(upstream, config.name))
        case TerminalUpstreamConfig():
            return (yield from terminal.findings(upstream, config.name))
        case PapercutUpstreamConfig():
            return (yield from papercut.findings(upstream, config.offline.unknown_username))
    return True
