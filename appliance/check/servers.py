"""Whether each server can be reached, with the question of its dialect."""

from collections.abc import Generator, Iterator

from appliance.check import papercut, radius, terminal
from appliance.check.findings import Finding, error
from appliance.config import (
    Config,
    PapercutUpstreamConfig,
    RadiusUpstreamConfig,
    TerminalUpstreamConfig,
    UpstreamConfig,
)


def findings(config: Config) -> Iterator[Finding]:
    for upstream in config.upstreams:
        reached = yield from _upstream(upstream, config)
        if not reached and not isinstance(upstream, PapercutUpstreamConfig):  # its one address has said why
            text = "no address of it answered for logins; until one does, nobody is let in for it"
            yield error(f"upstream {upstream.name}", text)


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
