"""What the configuration file says, as values: durations are seconds, paths are absolute, names have been checked.

Nothing here reads a file. A `Secret` never shows itself when it is printed, logged or put into an error.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Literal

from proxy.metering.agents import Agent
from proxy.snmp.settings import Access, ProxySettings, TrapSettings

MessageAuthenticatorRule = Literal["auto", "true", "false"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a configuration file; `line` counts from 1."""

    file: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


class ConfigError(Exception):
    """The configuration cannot be used. `problems` is never empty; str() gives a line each, in the file's order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line))
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """Bytes that must never be shown. Two secrets are equal when their bytes are."""

    value: bytes

    def __repr__(self) -> str:
        return "Secret(hidden)"

    __str__ = __repr__


@dataclass(frozen=True, slots=True)
class TestLogin:
    """A user that the server knows, for probing where Status-Server is not answered."""

    __test__ = False  # not a class of tests, whatever its name suggests to pytest

    user: str
    password: Secret


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """TLS of one side, all in PEM and checked: whom to trust, and who one is.

    `ca` b"": a client trusts what the system trusts, a server asks for no certificate. `certificate` b"": one has none.
    """

    ca: bytes = b""
    certificate: bytes = b""
    key: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class UpstreamConfig:
    """One Application Server. `addresses` are IP literals without brackets or DNS names, in order of preference;
    times are in seconds.
    """

    name: str
    dialect: str
    addresses: tuple[str, ...]
    answer_timeout: float = 3.0
    probe_interval: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RadiusUpstreamConfig(UpstreamConfig):
    """A RADIUS server."""

    secret: Secret
    auth_port: int = 1812
    accounting_port: int = 1813
    require_message_authenticator: MessageAuthenticatorRule = "auto"
    test_login: TestLogin | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalUpstreamConfig(UpstreamConfig):
    """A server that speaks the terminal dialect; in the clear if `tls` is None."""

    port: int = 9790
    tls: TlsConfig | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PapercutUpstreamConfig(UpstreamConfig):
    """A PaperCut server by its Web Services: XML-RPC at `path` of `host` and `port`, in the clear if `tls` is None.

    `addresses` is `(host,)`. `time_zone` is the server's, an IANA name. The first group of `card_regex` is the card
    number; `card_converters` are applied to it in their order. Up to `drain_window` records are on their way at once.
    """

    url: str
    host: str
    port: int
    path: str
    token: Secret
    time_zone: str
    tls: TlsConfig | None = None
    card_regex: re.Pattern[str] | None = None
    card_converters: tuple[str, ...] = ()
    drain_window: int = 32


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """Devices that may speak to a listener: those whose source address lies in `network`."""

    network: IPv4Network | IPv6Network
    secret: Secret
    role: str = "copier"
    require_message_authenticator: bool = True
    ignore_password_offline: bool = False


@dataclass(frozen=True, slots=True)
class ListenConfig:
    """Where devices reach Locum; `upstream` takes the logins, `records_to` the jobs."""

    dialect: str
    bind: str
    upstream: str
    records_to: str


@dataclass(frozen=True, slots=True)
class RadiusListenConfig(ListenConfig):
    """Where RADIUS devices reach Locum."""

    clients: tuple[ClientConfig, ...]
    auth_port: int = 1812
    accounting_port: int = 1813


@dataclass(frozen=True, slots=True)
class TerminalListenConfig(ListenConfig):
    """Where terminals reach Locum; in the clear if `tls` is None. With `tls.ca` a terminal must show a certificate."""

    port: int = 9790
    tls: TlsConfig | None = None


@dataclass(frozen=True, slots=True)
class ReaderConfig(ListenConfig):
    """A network card reader beside the copier `device`; Locum listens on `bind` and `port`.

    `connects` False: for the server, which may come from `server` ("": from anywhere), and Locum connects on to the
    reader at `address` and `reader_port`. True: for the reader, which may come from `address` ("": from anywhere), and
    Locum connects on to `server` and `server_port`. `rfideas`: whether it takes the commands of rf IDEAS; None: once
    it shows so. `session_idle` in seconds.
    """

    device: str
    port: int
    connects: bool = False
    address: str = ""
    reader_port: int = 0
    server: str = ""
    server_port: int = 0
    session_idle: float = 60.0
    rfideas: bool | None = None


@dataclass(frozen=True, slots=True)
class OfflineConfig:
    """The rules while the server is away; `delay` and `card_memory` in seconds, no limit where it is None."""

    enabled: bool = True
    environment: Literal["commercial", "education"] = "commercial"
    delay: float = 60.0
    recover_after: int = 3
    admission: Literal["any-card", "known-cards"] = "any-card"
    card_memory: float = 30 * 86_400.0
    refuse_known_bad: bool = True
    card_pattern: re.Pattern[str] = re.compile(r"^[0-9A-Fa-f]{4,32}$")
    unknown_username: str = "unknown"
    drain_window: int = 256
    max_pages_per_card: int | None = None
    max_sessions_per_card: int | None = None
    max_outage_hours: int | None = None


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """A device that differs from the rest; `offline` has the values of the [offline] section where it does not.

    `certificate` is the SHA-256, in hexadecimal, of the TLS certificate that the device must show; "" pins none.
    """

    id: str
    address: str | None
    printer: str
    offline: OfflineConfig
    certificate: str = ""


@dataclass(frozen=True, slots=True)
class RadiusConfig:
    """Where RADIUS page counts are found: `job` maps fields of a job to attribute names, over the default mapping."""

    vendor_id: int
    dictionary_files: tuple[Path, ...]
    job: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SyslogTarget:
    """A syslog server that is told at once (RFC 5424, over UDP or TCP)."""

    kind: Literal["udp", "tcp"]
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class AlertsConfig:
    """Who hears of what cannot wait for a person to look."""

    syslog: tuple[SyslogTarget, ...] = ()


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """Where Prometheus finds the figures; `bind` is an IP literal."""

    bind: str
    port: int


@dataclass(frozen=True, slots=True)
class LedgerConfig:
    """How the ledger is kept: personal data for `keep_personal` seconds (None: for ever). `time_zone`: an IANA name, in
    which exports and reports show times beside UTC; None is this machine's own.
    """

    keep_personal: float | None = None
    time_zone: str | None = None


@dataclass(frozen=True, slots=True)
class InlineConfig:
    """Where Locum stands in line: the interfaces towards the copiers and towards the servers. `bridge` is the name of
    the bridge that joins them, in mode bridge.
    """

    mode: Literal["bridge", "router"]
    copier_side: str
    server_side: str
    bridge: str = "locum0"

    @property
    def device(self) -> str:
        """The interface on which this machine takes diverted flows."""
        return self.bridge if self.mode == "bridge" else self.copier_side


@dataclass(frozen=True, slots=True)
class SnmpConfig:
    """Whose page meters are read: `agents` by device, every `in_session` seconds while somebody is there, else every
    `otherwise`. `meters`: the admin's own table of meters as text, "" where there is none.
    """

    agents: Mapping[str, Agent] = field(default_factory=dict)
    in_session: float = 5.0
    otherwise: float = 300.0
    meters: str = ""


@dataclass(frozen=True, slots=True)
class SnmpAgentConfig:
    """Locum's own agent. `notify`: addresses and ports that are told of alarms, by SNMPv3 or (`notify_v3` False) 2c."""

    bind: str
    port: int
    access: Access
    notify: tuple[tuple[str, int], ...] = ()
    notify_v3: bool = True


@dataclass(frozen=True, slots=True)
class SnmpProxyConfig:
    """The SNMP proxy. `copiers`: device, and the address and port where it is asked."""

    access: Access
    settings: ProxySettings
    copiers: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True, slots=True)
class SnmpTrapsConfig:
    """Where copiers' traps are taken, and the upstream whose state decides whether they are forwarded."""

    bind: str
    port: int
    upstream: str
    settings: TrapSettings


@dataclass(frozen=True, slots=True)
class ManagementConfig:
    """What of SNMP is towards the management side."""

    agent: SnmpAgentConfig | None = None
    proxy: SnmpProxyConfig | None = None
    traps: SnmpTrapsConfig | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """A whole configuration. `digest` is "sha256:" and the hexadecimal SHA-256 of the file's bytes."""

    path: Path
    digest: str
    name: str
    state_dir: Path
    upstreams: tuple[UpstreamConfig, ...]
    listens: tuple[ListenConfig, ...]
    offline: OfflineConfig
    devices: tuple[DeviceConfig, ...]
    radius: RadiusConfig
    alerts: AlertsConfig = AlertsConfig()
    metrics: MetricsConfig | None = None
    ledger: LedgerConfig = LedgerConfig()
    inline: InlineConfig | None = None
    snmp: SnmpConfig | None = None
    management: ManagementConfig = ManagementConfig()
