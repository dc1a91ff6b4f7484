"""SNMP towards the management side: whether its ports can be had, and who asks in the clear."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.check.findings import Finding, warning
from appliance.check.machine import port_tried
from appliance.check.running import Place, Running
from appliance.config import Config


def findings(config: Config, running: Running | None) -> Iterator[Finding]:
    wanted = config.management
    ports: list[tuple[str, str, int]] = []
    if wanted.agent is not None:
        ports.append(("[snmp.agent]", wanted.agent.bind, wanted.agent.port))
    if wanted.proxy is not None:
        ports += [("[snmp.proxy]", bind, port) for _, bind, port in wanted.proxy.copiers]
    if wanted.traps is not None:
        ports.append(("[snmp.traps]", wanted.traps.bind, wanted.traps.port))
    for section, bind, port in ports:
        yield port_tried(f"SNMP {bind} port {port}", Place(bind, port, "udp"), running, section)
    for section, access in (
        ("[snmp.agent]", wanted.agent.access if wanted.agent is not None else None),
        ("[snmp.proxy]", wanted.proxy.access if wanted.proxy is not None else None),
    ):
        if access is not None and access.communities:
            yield warning(
                section, "SNMPv2c sends its community in the clear; where programs know SNMPv3, take that alone"
            )
    if wanted.proxy is not None and wanted.proxy.settings.writes:
        yield warning("[snmp.proxy]", "whoever may ask may change copiers' settings too; writes = false unless needed")
