"""Whether what leaves the box can leave it: the names of syslog servers, the port for Prometheus."""

import socket
from collections.abc import Iterator

from appliance.check.findings import Finding, ok, warning
from appliance.check.machine import not_bound
from appliance.check.reach import place, resolved
from appliance.config import Config, SyslogTarget

CONNECT_TIMEOUT = 2.0


def findings(config: Config, running: bool) -> Iterator[Finding]:
    """`running`: a Locum holds the port now."""
    for target in config.alerts.syslog:
        yield _syslog(target)
    if config.metrics is not None:
        what = f"metrics {place(config.metrics.bind, config.metrics.port)}"
        family = socket.AF_INET6 if ":" in config.metrics.bind else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as tried:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind((config.metrics.bind, config.metrics.port))
            yield ok(what, "is free")
        except OSError as problem:
            yield not_bound(what, problem, running, "[metrics]")


def _syslog(target: SyslogTarget) -> Finding:
    what = f"alerts {target.kind}://{place(target.host, target.port)}"
    addresses = resolved(target.host)
    if isinstance(addresses, Finding):
        return addresses
    try:
        family = socket.AF_INET6 if ":" in addresses[0] else socket.AF_INET
        kind = socket.SOCK_DGRAM if target.kind == "udp" else socket.SOCK_STREAM
        with socket.socket(family, kind) as tried:
            tried.settimeout(CONNECT_TIMEOUT)
            tried.connect((addresses[0], target.port))
    except OSError as problem:
        return warning(what, f"cannot be reached ({problem.strerror or 'no answer'}); alarms would stay in this box")
    if target.kind == "udp":
        return ok(what, "has a way to it; whether it listens cannot be told over UDP")
    return ok(what, "takes connections")
