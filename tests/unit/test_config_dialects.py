"""Upstreams and listeners of the dialects terminal and papercut, limits, alerts and metrics: what they become."""

import re
from pathlib import Path

import pytest

from appliance.config import (
    AlertsConfig,
    ConfigError,
    MetricsConfig,
    PapercutUpstreamConfig,
    RadiusListenConfig,
    Secret,
    SyslogTarget,
    TerminalListenConfig,
    TerminalUpstreamConfig,
    TlsConfig,
)
from appliance.init.certificate import self_signed
from tests.unit.configs import SMALL, loaded

PAPERCUT = """\
[[upstream]]
name = "print"
dialect = "papercut"
url = "https://print.example.org"
token = "a token that nobody guesses"
[[listen]]
dialect = "terminal"
bind = "127.0.0.1"
upstream = "print"
"""
TERMINAL = """\
[[upstream]]
name = "lab"
dialect = "terminal"
address = ["10.0.0.7", "lab.example.org"]
[[listen]]
dialect = "terminal"
bind = "::1"
port = 9999
upstream = "lab"
"""


def problems(folder: Path, text: str) -> list[tuple[int, str]]:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text)
    return [(problem.line, problem.text) for problem in caught.value.problems]


def papercut(folder: Path, text: str = PAPERCUT) -> PapercutUpstreamConfig:
    upstream = loaded(folder, text).upstreams[0]
    assert isinstance(upstream, PapercutUpstreamConfig)
    return upstream


def pair(folder: Path, name: str = "own") -> tuple[bytes, bytes]:
    """A certificate and its key, in NAME.crt and NAME.key."""
    certificate, key = self_signed("test", "127.0.0.1")
    (folder / f"{name}.crt").write_bytes(certificate)
    (folder / f"{name}.key").write_bytes(key)
    (folder / f"{name}.key").chmod(0o600)
    return certificate, key


def test_a_papercut_server_has_the_documented_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    upstream = papercut(tmp_path)
    assert (upstream.host, upstream.port, upstream.path) == ("print.example.org", 9192, "/rpc/api/xmlrpc")
    assert upstream.addresses == ("print.example.org",)
    assert upstream.tls == TlsConfig()
    assert upstream.token == Secret(b"a token that nobody guesses")
    assert (upstream.time_zone, upstream.card_regex, upstream.card_converters) == ("Europe/Berlin", None, ())
    assert (upstream.answer_timeout, upstream.probe_interval, upstream.drain_window) == (3.0, 10.0, 32)


def test_every_key_of_a_papercut_server_is_read(tmp_path: Path) -> None:
    ca, _ = pair(tmp_path)
    text = PAPERCUT.replace("print.example.org", "[fd00::5]:9195/other").replace(
        'dialect = "papercut"',
        'dialect = "papercut"\nca_file = "own.crt"\ntime_zone = "Asia/Tokyo"\ncard_regex = "^;?([0-9A-F]+)"\n'
        'card_converters = ["hex2dec", "strip-zeros"]\nanswer_timeout = "1s"\nprobe_interval = "1m"',
    )
    upstream = papercut(tmp_path, text + "[offline]\ndrain_window = 8\n")
    assert (upstream.host, upstream.port, upstream.path) == ("fd00::5", 9195, "/other")
    assert upstream.tls == TlsConfig(ca=ca)
    assert upstream.card_regex == re.compile("^;?([0-9A-F]+)")
    assert upstream.card_converters == ("hex2dec", "strip-zeros")
    assert (upstream.time_zone, upstream.answer_timeout, upstream.probe_interval) == ("Asia/Tokyo", 1.0, 60.0)
    assert upstream.drain_window == 8


@pytest.mark.parametrize(
    ("url", "port"), [("http://h", 9191), ("http://h:80/", 80), ("https://h/", 9192), ("https://h:9195", 9195)]
)
def test_a_port_follows_the_scheme(tmp_path: Path, url: str, port: int) -> None:
    upstream = papercut(tmp_path, PAPERCUT.replace("https://print.example.org", url))
    assert (upstream.port, upstream.path, upstream.tls is None) == (port, "/rpc/api/xmlrpc", url.startswith("http:"))


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("https://print", "ftp://print", 4, "does not begin with http:// or https:// and a host; write for example"),
        ("https://print", "https://me:pw@print", 4, "holds more than host, port and path"),
        ("example.org", "example.org?x=1", 4, "holds more than host, port and path"),
        ("example.org", "example.org:99999", 4, "is no address of a PaperCut server"),
        ("print.example.org", "10.0.0.300", 4, "is neither an IP address nor a host name"),
        ("\ntoken", '\ntime_zone = "Europe/Berln"\ntoken', 5, 'did you mean "Europe/Berlin"?'),
        ("\ntoken", '\ntime_zone = "/etc/passwd"\ntoken', 5, "is no time zone that this machine knows"),
        ("\ntoken", '\ncard_regex = "[0-9]+"\ntoken', 5, "has no group, so it finds no card number"),
        ("\ntoken", '\ncard_regex = "("\ntoken', 5, "is not a regular expression"),
        ("\ntoken", '\ncard_converters = ["hex2dez"]\ntoken', 5, 'no converter "hex2dez"; did you mean "hex2dec"?'),
        ("\ntoken", '\nca_file = "none.pem"\ntoken', 5, "does not exist; copy the certificate there"),
        ("\ntoken", '\nca_file = "locum.toml"\ntoken', 5, "holds no certificate in PEM"),
        ('"a token that', '"a\\u0001token that', 5, "token holds what no token has"),
        (
            'token = "a token that nobody guesses"\n',
            "",
            1,
            'no token is given; add token_file = "/etc/locum/NAME.token"',
        ),
        ("\nurl", '\nadress = "x"\nurl', 4, 'unknown key "adress" in [[upstream]]; known here: name, dialect, url'),
    ],
)
def test_a_mistake_in_a_papercut_server_is_named(tmp_path: Path, old: str, new: str, line: int, said: str) -> None:
    assert old in PAPERCUT
    found = problems(tmp_path, PAPERCUT.replace(old, new))
    assert [(at, said in what and ";" in what) for at, what in found] == [(line, True)], found


def test_an_authority_without_tls_is_a_mistake(tmp_path: Path) -> None:
    pair(tmp_path)
    text = PAPERCUT.replace("https", "http").replace("\ntoken", '\nca_file = "own.crt"\ntoken')
    assert problems(tmp_path, text) == [(5, 'ca_file has no effect with http; write url = "https://..." or remove it')]


def test_a_token_file_must_be_closed(tmp_path: Path) -> None:
    (tmp_path / "print.token").write_text("a token that nobody guesses\n")
    (tmp_path / "print.token").chmod(0o644)
    text = PAPERCUT.replace('token = "a token that nobody guesses"', 'token_file = "print.token"')
    assert "is open to everybody; run: chmod o-rwx" in problems(tmp_path, text)[0][1]
    (tmp_path / "print.token").chmod(0o600)
    assert papercut(tmp_path, text).token.value == b"a token that nobody guesses"


def test_a_terminal_server_and_listener_are_read(tmp_path: Path) -> None:
    config = loaded(tmp_path, TERMINAL)
    assert config.upstreams == (TerminalUpstreamConfig("lab", "terminal", ("10.0.0.7", "lab.example.org")),)
    assert config.listens == (TerminalListenConfig("terminal", "::1", "lab", "lab", 9999),)


def test_tls_of_terminals_is_read_on_either_side(tmp_path: Path) -> None:
    certificate, key = pair(tmp_path)
    authority, _ = pair(tmp_path, "other")
    text = TERMINAL.replace(
        "\n[[listen]]",
        '\ntls = { ca_file = "other.crt", certificate_file = "own.crt", key_file = "own.key" }\n[[listen]]',
    )
    text += 'tls = { certificate_file = "own.crt", key_file = "own.key", client_ca_file = "other.crt" }\n'
    config = loaded(tmp_path, text)
    wanted = TlsConfig(authority, certificate, key)
    upstream, listen = config.upstreams[0], config.listens[0]
    assert isinstance(upstream, TerminalUpstreamConfig)
    assert isinstance(listen, TerminalListenConfig)
    assert (upstream.tls, listen.tls) == (wanted, wanted)
    assert key.decode() not in repr(config)


@pytest.mark.parametrize(
    ("tls", "said"),
    [
        ('{ certificate_file = "own.crt" }', "key_file is missing in tls of [[listen]]"),
        ('{ certificate_file = "own.crt", key_file = "other.key" }', "is not the key of the certificate"),
        ('{ certificate_file = "own.crt", key_file = "no.key" }', "holds no private key in PEM"),
        ('{ certificate_file = "own.key", key_file = "own.key" }', "holds no certificate in PEM"),
        ('{ certificate_file = "own.crt", key_file = "open.key" }', "is open to everybody; run: chmod o-rwx"),
        ('{ certificate_file = "own.crt", key_file = "none.key" }', "does not exist; copy the key there"),
        ('{ certificate_file = "own.crt", key_file = "locked.key" }', "is locked with a passphrase"),
    ],
)
def test_a_certificate_needs_its_key_and_the_key_its_closed_file(tmp_path: Path, tls: str, said: str) -> None:
    from cryptography.hazmat.primitives import serialization

    _, key = pair(tmp_path)
    pair(tmp_path, "other")
    (tmp_path / "no.key").write_text("no key")
    (tmp_path / "no.key").chmod(0o600)
    (tmp_path / "open.key").write_bytes(key)
    (tmp_path / "open.key").chmod(0o644)
    locked = serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    )
    (tmp_path / "locked.key").write_bytes(locked)
    (tmp_path / "locked.key").chmod(0o600)
    ((line, what),) = problems(tmp_path, f"{TERMINAL}tls = {tls}\n")
    assert (line, said in what) == (10, True), what


def test_a_servers_tls_may_be_empty_but_not_half(tmp_path: Path) -> None:
    pair(tmp_path)
    upstream = loaded(tmp_path, TERMINAL.replace("\n[[listen]]", "\ntls = {}\n[[listen]]")).upstreams[0]
    assert isinstance(upstream, TerminalUpstreamConfig)
    assert upstream.tls == TlsConfig()
    half = TERMINAL.replace("\n[[listen]]", '\ntls = { key_file = "own.key" }\n[[listen]]')
    assert problems(tmp_path, half) == [(5, "a certificate and its key belong together; add certificate_file")]


def test_a_radius_listener_may_have_a_papercut_upstream(tmp_path: Path) -> None:
    radius = SMALL[SMALL.index("[[listen]]") :].replace('"hq"', '"print"')
    config = loaded(tmp_path, PAPERCUT + radius)
    assert [type(listen) for listen in config.listens] == [TerminalListenConfig, RadiusListenConfig]


def test_udp_and_tcp_ports_are_apart_and_tcp_ports_are_not_shared(tmp_path: Path) -> None:
    radius = SMALL[SMALL.index("[[listen]]") :].replace('"hq"', '"print"').replace("bind", "auth_port = 9790\nbind")
    assert len(loaded(tmp_path, PAPERCUT + radius).listens) == 2
    second = PAPERCUT[PAPERCUT.index("[[listen]]") :].replace("127.0.0.1", "0.0.0.0")
    said = "port 9790 of 0.0.0.0 is taken by the listener in line 8; change bind or the port"
    assert problems(tmp_path, PAPERCUT + second) == [(12, said)]
    metrics = "[metrics]\nport = 9790\n"
    assert problems(tmp_path, PAPERCUT + metrics) == [(11, said.replace("0.0.0.0", "127.0.0.1"))]


def test_limits_and_environment_may_differ_for_a_device(tmp_path: Path) -> None:
    text = PAPERCUT + (
        '[offline]\nmax_pages_per_card = 100\nmax_outage_hours = 24\n[[device]]\nid = "a"\n'
        'offline = { environment = "education", max_pages_per_card = 5, max_sessions_per_card = 2 }\n'
    )
    config = loaded(tmp_path, text)
    everywhere, here = config.offline, config.devices[0].offline
    assert (everywhere.max_pages_per_card, everywhere.max_sessions_per_card, everywhere.max_outage_hours) == (
        100,
        None,
        24,
    )
    assert (here.environment, here.max_pages_per_card, here.max_sessions_per_card) == ("education", 5, 2)
    assert (everywhere.environment, here.max_outage_hours) == ("commercial", 24)


def test_a_pinned_certificate_is_read_as_openssl_prints_it(tmp_path: Path) -> None:
    colons = ":".join(["AB"] * 32)
    text = PAPERCUT + f'[[device]]\nid = "a"\ncertificate_sha256 = "{colons}"\n[[device]]\nid = "b"\n'
    assert [device.certificate for device in loaded(tmp_path, text).devices] == ["ab" * 32, ""]


def test_alerts_and_metrics_are_off_until_they_are_written(tmp_path: Path) -> None:
    config = loaded(tmp_path, PAPERCUT)
    assert (config.alerts, config.metrics) == (AlertsConfig(), None)
    config = loaded(tmp_path, PAPERCUT + '[alerts]\nsyslog = "udp://10.0.0.9:1514"\n[metrics]\n')
    assert config.alerts.syslog == (SyslogTarget("udp", "10.0.0.9", 1514),)
    assert config.metrics == MetricsConfig("127.0.0.1", 9464)
    several = '[alerts]\nsyslog = ["tcp://[fd00::9]:601", "udp://log.example.org"]\n'
    assert loaded(tmp_path, PAPERCUT + several).alerts.syslog == (
        SyslogTarget("tcp", "fd00::9", 601),
        SyslogTarget("udp", "log.example.org", 514),
    )


def test_two_upstreams_cannot_be_one_papercut_server(tmp_path: Path) -> None:
    again = PAPERCUT.partition("[[listen]]")[0].replace('"print"', '"other"')
    with pytest.raises(ConfigError, match=r'url "https://print\.example\.org" is used twice'):
        loaded(tmp_path, again + PAPERCUT)
