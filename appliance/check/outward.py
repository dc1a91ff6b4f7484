"""Whether what leaves the box can leave it: the names of syslog servers, the port for Prometheus."""

import socket
from collections.abc import Iterator

from appliance.check.findings import Finding, ok, warning
from appliance.check.machine import port_tried
from appliance.check.reach import place, resolved
from appliance.check.running import Place, Running
from appliance.config import Config, SyslogTarget

CONNECT_TIMEOUT = 2.0


def findings(config: Config, running: Running | None) -> Iterator[Finding]:
    """`running`: the Locum that may hold the port now."""
    for target in config.alerts.syslog:
        yield _syslog(target)
    if config.metrics is not None:
        bind, port = config.metrics.bind, config.metrics.port
        yield port_tried(f"metrics {place(bind, port)}", Place(bind, port, "tcp"), running, "[metrics]")


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
