"""The tables of the configuration file as msgspec reads them: the keys, their types, and how to say what they must be.

A field's `Meta` carries its `description` ("must be ..."), an example in TOML, and for durations the least and the
most in `extra`. Tables that hold tables are read piece by piece, so their fields are `Tables` or `Table` here.
"""

import re
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

Table = Annotated[dict[str, Any], Meta(description="a table", examples=["{ ... }"])]
Tables = Annotated[list[dict[str, Any]], Meta(description="a list of tables", examples=["[{ ... }]"])]

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


class Duration:
    """A length of time in seconds, written as `500ms`, `30s`, `5m`, `12h` or `30d`; the number 0 needs no unit.

    No dataclass: msgspec would read one from a table and not ask `decode_hook`.
    """

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


def decode_hook(wanted: type, value: object) -> object:
    """Make a `Duration`, the only type that msgspec does not know here; ValueError when `value` is none."""
    if wanted is not Duration:
        raise NotImplementedError(wanted)
    if value == 0 and type(value) is int:
        return Duration(0.0)
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not a duration")
    return Duration(float(match[1]) * _SECONDS[match[2]])


def _text(what: str, example: str) -> Meta:
    return Meta(
        min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$", description=what, examples=[f'"{example}"']
    )


def _number(least: int, most: int, example: int) -> Meta:
    return Meta(ge=least, le=most, description=f"a whole number from {least} to {most}", examples=[str(example)])


def _duration(least: str, most: str, example: str) -> Meta:
    return Meta(
        description=f"a duration from {least} to {most}",
        examples=[f'"{example}"'],
        extra={"least": _seconds(least), "most": _seconds(most)},
    )


def _seconds(text: str) -> float:
    match = _DURATION.fullmatch(text)
    return float(match[1]) * _SECONDS[match[2]] if match else 0.0


Name = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="a short name of letters, digits, '.', '_' and '-'",
        examples=['"hq"'],
    ),
]
Text = Annotated[str, _text("a text of one line", "Library")]
File = Annotated[str, _text("the path of a file", "/etc/locum/hq.secret")]
Files = Annotated[list[str], Meta(description="a list of paths", examples=['["/etc/locum/dictionary.canon"]'])]
Port = Annotated[int, _number(1, 65535, 1812)]
Flag = Annotated[bool, Meta(description="true or false", examples=["true"])]
SecretText = Annotated[
    str, Meta(min_length=1, max_length=1024, description="a text that is not empty", examples=["'a long random text'"])
]
Address = Annotated[str | list[str], Meta(description="an address, or a list of addresses", examples=['"10.0.0.5"'])]
Bind = Annotated[str, _text("an IPv4 or IPv6 address of this machine", "0.0.0.0")]
DialectName = Annotated[
    Literal["radius", "terminal", "papercut"],
    Meta(description='"radius", "terminal" or "papercut"', examples=['"radius"']),
]
Always = Annotated[bool | Literal["auto"], Meta(description='"auto", true or false', examples=['"auto"'])]


class Document(Struct):
    appliance: Table | None = None
    upstream: Tables = field(default_factory=list)
    listen: Tables = field(default_factory=list)
    offline: Table = field(default_factory=dict)
    device: Tables = field(default_factory=list)
    radius: Table = field(default_factory=dict)
    alerts: Table = field(default_factory=dict)
    metrics: Table | None = None
    ledger: Table = field(default_factory=dict)
    inline: Table | None = None
    reader: Tables = field(default_factory=list)
    snmp: Table | None = None


class Appliance(Struct):
    name: Text = "locum"
    state_dir: Annotated[str, _text("the path of a directory", "/var/lib/locum")] = "/var/lib/locum"


class RadiusUpstream(Struct):
    name: Name
    dialect: DialectName
    address: Address
    auth_port: Port = 1812
    accounting_port: Port = 1813
    secret: SecretText | None = None
    secret_file: File | None = None
    answer_timeout: Annotated[Duration, _duration("50ms", "60s", "3s")] = Duration(3.0)
    probe_interval: Annotated[Duration, _duration("100ms", "1h", "10s")] = Duration(10.0)
    require_message_authenticator: Always = "auto"
    test_login: Table | None = None


class TestLogin(Struct):
    __test__ = False

    user: Text
    password: SecretText | None = None
    password_file: File | None = None


class PapercutUpstream(Struct):
    name: Name
    dialect: DialectName
    url: Text
    token: SecretText | None = None
    token_file: File | None = None
    ca_file: File | None = None
    time_zone: Text | None = None
    card_regex: Text | None = None
    card_converters: Annotated[list[str], Meta(description="a list of names", examples=['["hex2dec"]'])] | None = None
    answer_timeout: Annotated[Duration, _duration("50ms", "60s", "3s")] = Duration(3.0)
    probe_interval: Annotated[Duration, _duration("100ms", "1h", "10s")] = Duration(10.0)


class TerminalUpstream(Struct):
    name: Name
    dialect: DialectName
    address: Address
    port: Port = 9790
    tls: Table | None = None
    answer_timeout: Annotated[Duration, _duration("50ms", "60s", "3s")] = Duration(3.0)
    probe_interval: Annotated[Duration, _duration("100ms", "1h", "10s")] = Duration(10.0)


class RadiusListen(Struct):
    dialect: DialectName
    bind: Bind
    upstream: Name
    clients: Tables
    auth_port: Port = 1812
    accounting_port: Port = 1813
    records_to: Name | None = None


class TerminalListen(Struct):
    dialect: DialectName
    bind: Bind
    upstream: Name
    port: Port = 9790
    records_to: Name | None = None
    tls: Table | None = None


Endpoint = Annotated[str, _text("an address with its port", "10.0.0.5:7778")]


class CardReader(Struct):
    device: Text
    upstream: Name
    listen: Endpoint
    records_to: Name | None = None
    address: Bind | None = None
    port: Port | None = None
    connects: Flag = False
    server: Endpoint | None = None
    commands: Annotated[
        Literal["auto", "plain", "rfideas"],
        Meta(description='"auto", "plain" or "rfideas"', examples=['"auto"']),
    ] = "auto"
    session_idle: Annotated[Duration, _duration("5s", "1h", "60s")] = Duration(60.0)


class UpstreamTls(Struct):
    ca_file: File | None = None
    certificate_file: File | None = None
    key_file: File | None = None


class ListenTls(Struct):
    certificate_file: File
    key_file: File
    client_ca_file: File | None = None


class Client(Struct):
    network: Annotated[str, _text("a network or an address", "10.7.0.0/24")]
    secret: SecretText | None = None
    secret_file: File | None = None
    role: Annotated[
        str, Meta(pattern=r"^[a-z][a-z0-9-]{0,31}$", description="a word in small letters", examples=['"copier"'])
    ] = "copier"
    require_message_authenticator: Flag = True
    ignore_password_offline: Flag = False


class Offline(Struct):
    enabled: Flag = True
    environment: Annotated[
        Literal["commercial", "education"],
        Meta(description='"commercial" or "education"', examples=['"commercial"']),
    ] = "commercial"
    delay: Annotated[Duration, _duration("0s", "7d", "60s")] = Duration(60.0)
    recover_after: Annotated[int, _number(1, 100, 3)] = 3
    admission: Annotated[
        Literal["any-card", "known-cards"],
        Meta(description='"any-card" or "known-cards"', examples=['"any-card"']),
    ] = "any-card"
    card_memory: Annotated[Duration, _duration("1m", "3650d", "30d")] = Duration(30 * 86_400.0)
    refuse_known_bad: Flag = True
    card_pattern: Annotated[str, _text("a regular expression", "^[0-9A-Fa-f]{4,32}$")] = "^[0-9A-Fa-f]{4,32}$"
    unknown_username: Text = "unknown"
    drain_window: Annotated[int, _number(1, 8192, 256)] = 256
    max_pages_per_card: Annotated[int, _number(1, 1_000_000, 100)] | None = None
    max_sessions_per_card: Annotated[int, _number(1, 1_000_000, 20)] | None = None
    max_outage_hours: Annotated[int, _number(1, 100_000, 24)] | None = None


class Device(Struct):
    id: Text
    address: Bind | None = None
    certificate_sha256: (
        Annotated[
            str,
            Meta(
                pattern=r"^(?:[0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}$",
                description="the SHA-256 of a certificate, 64 hexadecimal digits",
                examples=['"..." (see: openssl x509 -noout -fingerprint -sha256 -in FILE)'],
            ),
        ]
        | None
    ) = None
    printer: Text | None = None
    offline: Table = field(default_factory=dict)
    snmp: Table | None = None


SnmpVersion = Annotated[Literal["1", "2c", "3"], Meta(description='"1", "2c" or "3"', examples=['"2c"'])]
Auth = Annotated[
    Literal["none", "md5", "sha1", "sha224", "sha256", "sha384", "sha512"],
    Meta(description='"none", "md5", "sha1", "sha224", "sha256", "sha384" or "sha512"', examples=['"sha256"']),
]
Priv = Annotated[
    Literal["none", "des", "aes128", "aes192", "aes256"],
    Meta(description='"none", "des", "aes128", "aes192" or "aes256"', examples=['"aes128"']),
]


class DeviceSnmp(Struct):
    address: Bind | None = None
    port: Port = 161
    version: SnmpVersion = "2c"
    community: SecretText | None = None
    community_file: File | None = None
    user: Text | None = None
    auth: Auth = "none"
    auth_key: SecretText | None = None
    auth_key_file: File | None = None
    priv: Priv = "none"
    priv_key: SecretText | None = None
    priv_key_file: File | None = None
    context: Text | None = None


class Snmp(Struct):
    version: SnmpVersion = "2c"
    community: SecretText | None = None
    community_file: File | None = None
    user: Text | None = None
    auth: Auth = "none"
    auth_key: SecretText | None = None
    auth_key_file: File | None = None
    priv: Priv = "none"
    priv_key: SecretText | None = None
    priv_key_file: File | None = None
    context: Text | None = None
    in_session: Annotated[Duration, _duration("1s", "5m", "5s")] = Duration(5.0)
    otherwise: Annotated[Duration, _duration("10s", "1d", "5m")] = Duration(300.0)
    meters_file: File | None = None
    agent: Table | None = None
    proxy: Table | None = None
    traps: Table | None = None


ManagedAuth = Annotated[
    Literal["sha224", "sha256", "sha384", "sha512"],
    Meta(description='"sha224", "sha256", "sha384" or "sha512"', examples=['"sha256"']),
]
ManagedPriv = Annotated[
    Literal["aes128", "aes192", "aes256"],
    Meta(description='"aes128", "aes192" or "aes256"', examples=['"aes128"']),
]
Endpoints = Annotated[
    str | list[str], Meta(description="an address with its port, or a list", examples=['"10.0.0.9:162"'])
]


class SnmpAgent(Struct):
    bind: Bind = "0.0.0.0"
    port: Port = 161
    user: Text | None = None
    auth: ManagedAuth = "sha256"
    auth_key: SecretText | None = None
    auth_key_file: File | None = None
    priv: ManagedPriv = "aes128"
    priv_key: SecretText | None = None
    priv_key_file: File | None = None
    community: SecretText | None = None
    community_file: File | None = None
    notify: Endpoints = field(default_factory=list)
    notify_version: Annotated[Literal["3", "2c"], Meta(description='"3" or "2c"', examples=['"3"'])] = "3"


class SnmpProxy(Struct):
    copiers: Tables
    bind: Bind = "0.0.0.0"
    user: Text | None = None
    auth: ManagedAuth = "sha256"
    auth_key: SecretText | None = None
    auth_key_file: File | None = None
    priv: ManagedPriv = "aes128"
    priv_key: SecretText | None = None
    priv_key_file: File | None = None
    community: SecretText | None = None
    community_file: File | None = None
    max_age: Annotated[Duration, _duration("0s", "1d", "30s")] = Duration(30.0)
    when_silent: Annotated[
        Literal["last-reading", "nothing"],
        Meta(description='"last-reading" or "nothing"', examples=['"last-reading"']),
    ] = "last-reading"
    writes: Flag = False


class ProxiedCopier(Struct):
    device: Text
    port: Port
    bind: Bind | None = None


class SnmpTraps(Struct):
    server: Endpoint
    upstream: Name
    bind: Bind = "0.0.0.0"
    port: Port = 162
    community: SecretText | None = None
    community_file: File | None = None
    most: Annotated[int, _number(1, 1_000_000, 10_000)] = 10_000


class Radius(Struct):
    vendor_id: Annotated[int, _number(1, 0xFFFFFF, 32473)] = 32473
    dictionary_files: Files = field(default_factory=list)
    job: Table = field(default_factory=dict)


class Alerts(Struct):
    syslog: Annotated[
        str | list[str], Meta(description="an address, or a list of them", examples=['"udp://10.0.0.9:514"'])
    ] = field(default_factory=list)


class Metrics(Struct):
    bind: Bind = "127.0.0.1"
    port: Port = 9464


class Ledger(Struct):
    keep_personal: Annotated[Duration, _duration("1d", "36500d", "365d")] | None = None
    time_zone: Annotated[str, _text("the name of a time zone", "Europe/Berlin")] | None = None


Interface = Annotated[
    str,
    Meta(
        pattern=r"^(?!\.{1,2}$)[A-Za-z0-9_.@-]{1,15}$",
        description="the name of a network interface",
        examples=['"eth1"'],
    ),
]


class Inline(Struct):
    mode: Annotated[Literal["bridge", "router"], Meta(description='"bridge" or "router"', examples=['"bridge"'])]
    copier_side: Interface
    server_side: Interface
    bridge: Interface = "locum0"


Attribute = Annotated[
    str,
    Meta(
        max_length=255,
        pattern=r"^[^\x00-\x1f\x7f]*$",
        description='the name of an attribute, or "" where the devices do not tell it',
        examples=['"Locum-Pages"'],
    ),
]


class RadiusJob(Struct):
    kind: Attribute = "Locum-Job-Kind"
    job_id: Attribute = "Locum-Job-Id"
    pages: Attribute = "Locum-Pages"
    color_pages: Attribute = "Locum-Color-Pages"
    sheets: Attribute = "Locum-Sheets"
    copies: Attribute = "Locum-Copies"
    duplex: Attribute = "Locum-Duplex"
    paper: Attribute = "Locum-Paper"
    document: Attribute = "Locum-Document"
    account: Attribute = "Locum-Account"


UPSTREAMS: dict[str, type[Struct]] = {
    "radius": RadiusUpstream,
    "papercut": PapercutUpstream,
    "terminal": TerminalUpstream,
}
LISTENS: dict[str, type[Struct]] = {"radius": RadiusListen, "terminal": TerminalListen}

LATER_SECTIONS = ("console",)
"""Sections that later versions have; each is an error of its own kind here."""

WHOLE_UPSTREAM = ("delay", "recover_after", "drain_window", "unknown_username", "max_outage_hours")
"""Keys of [offline] that hold for a whole upstream and cannot differ for one device."""
