"""`locum check`: tries everything that the configuration names, and says what it found.

Nothing is changed and nothing is kept: it may run beside the appliance. What only the running appliance can know
(which upstream is proven, what waits) is `locum status`.
"""

from collections.abc import Iterator

from appliance.check import (
    certificates,
    inline,
    machine,
    management,
    meters,
    outward,
    readers,
    rights,
    servers,
    settings,
)
from appliance.check.findings import Finding, Level, error
from appliance.check.running import running_on
from appliance.config import Config

__all__ = ["Finding", "Level", "check_all"]


def check_all(config: Config) -> Iterator[Finding]:
    """Try everything, the quick things first; a finding each."""
    running = running_on(config.state_dir)
    yield Finding(Level.OK, "config", f"{config.path} holds ({config.digest[:19]})")
    if running is not None and running.silent:
        yield error("appliance", running.silent)
    yield from rights.findings(config)
    yield from settings.findings(config)
    yield from machine.findings(config, running)
    yield from certificates.findings(config)
    yield from inline.findings(config)
    yield from outward.findings(config, running)
    yield from servers.findings(config)
    yield from readers.findings(config, running)
    yield from meters.findings(config)
    yield from management.findings(config, running)
