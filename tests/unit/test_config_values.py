"""What a good configuration becomes."""

import hashlib
import os
from ipaddress import ip_network
from pathlib import Path

import pytest

from appliance.config import ConfigError, RadiusListenConfig, RadiusUpstreamConfig, Secret, TestLogin, load
from tests.unit.configs import SMALL, loaded, write

WHOLE = """\
[appliance]
name = "library"
state_dir = "/var/lib/locum"

[[upstream]]
name = "hq"
dialect = "radius"
address = ["10.0.0.5", "[fd00::5]", "radius.example.org"]
auth_port = 11812
accounting_port = 11813
secret_file = "hq.secret"
answer_timeout = "1500ms"
probe_interval = "5m"
require_message_authenticator = true
test_login = { user = "probe", password_file = "probe.password" }

[[upstream]]
name = "books"
dialect = "radius"
address = "10.0.0.9"
secret_file = "hq.secret"

[[listen]]
dialect = "radius"
bind = "::"
upstream = "hq"
records_to = "books"
clients = [{ network = "10.7.0.0/24", secret_file = "hq.secret", role = "copier",
             require_message_authenticator = true, ignore_password_offline = false },  # two lines, as documented
           { network = "fd00:7::/64", secret_file = "hq.secret", role = "switch",
             require_message_authenticator = false, ignore_password_offline = true, } ]

[offline]
enabled = true
environment = "commercial"
delay = 0
recover_after = 5
admission = "known-cards"
card_memory = "12h"
refuse_known_bad = false
card_pattern = "^[0-9]{8}$"
unknown_username = "nobody-we-know"
drain_window = 64

[[device]]
id = "KM-A4F-000123"
address = "10.7.0.31"
printer = "Library copier"
offline = { enabled = false }

[[device]]
id = "KM-A4F-000124"

[radius]
vendor_id = 20712
dictionary_files = ["dictionary.vendor"]

[radius.job]
pages = "Vendor-Total-Pages"
"""


def test_every_documented_key_is_read(tmp_path: Path) -> None:
    for name, content in (("hq.secret", "s3cret\n"), ("probe.password", "let me in"), ("dictionary.vendor", "")):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o640)
    config = loaded(tmp_path, WHOLE)
    hq, books = config.upstreams
    assert isinstance(hq, RadiusUpstreamConfig)
    assert isinstance(books, RadiusUpstreamConfig)
    assert (config.name, config.state_dir) == ("library", Path("/var/lib/locum"))
    assert hq.addresses == ("10.0.0.5", "fd00::5", "radius.example.org")
    assert (hq.auth_port, hq.accounting_port) == (11812, 11813)
    assert hq.secret == Secret(b"s3cret")
    assert (hq.answer_timeout, hq.probe_interval) == (1.5, 300.0)
    assert hq.require_message_authenticator == "true"
    assert hq.test_login == TestLogin("probe", Secret(b"let me in"))
    assert (books.auth_port, books.accounting_port, books.answer_timeout, books.probe_interval) == (1812, 1813, 3, 10)
    assert (books.require_message_authenticator, books.test_login) == ("auto", None)
    (listen,) = config.listens
    assert isinstance(listen, RadiusListenConfig)
    assert (listen.bind, listen.upstream, listen.records_to) == ("::", "hq", "books")
    copiers, switches = listen.clients
    assert (copiers.network, copiers.role) == (ip_network("10.7.0.0/24"), "copier")
    assert (switches.network, switches.role) == (ip_network("fd00:7::/64"), "switch")
    assert (copiers.require_message_authenticator, copiers.ignore_password_offline) == (True, False)
    assert (switches.require_message_authenticator, switches.ignore_password_offline) == (False, True)
    offline = config.offline
    assert (offline.delay, offline.recover_after, offline.card_memory, offline.drain_window) == (0.0, 5, 43_200.0, 64)
    assert (offline.admission, offline.refuse_known_bad) == ("known-cards", False)
    assert (offline.card_pattern.pattern, offline.unknown_username) == ("^[0-9]{8}$", "nobody-we-know")
    pinned, named = config.devices
    assert (pinned.id, pinned.address, pinned.printer) == ("KM-A4F-000123", "10.7.0.31", "Library copier")
    assert (named.address, named.printer, named.offline) == (None, "KM-A4F-000124", offline)
    assert config.radius.vendor_id == 20712
    assert config.radius.dictionary_files == (tmp_path / "dictionary.vendor",)
    assert config.radius.job["pages"] == "Vendor-Total-Pages"
    assert config.radius.job["kind"] == "Locum-Job-Kind"


def test_a_device_takes_the_rest_of_its_offline_rules_from_the_offline_section(tmp_path: Path) -> None:
    text = SMALL + '[offline]\nadmission = "known-cards"\n[[device]]\nid = "a"\noffline = { enabled = false }\n'
    device = loaded(tmp_path, text).devices[0]
    assert (device.offline.enabled, device.offline.admission) == (False, "known-cards")


def test_what_is_left_out_has_the_documented_default(tmp_path: Path) -> None:
    config = loaded(tmp_path, SMALL)
    assert config.state_dir == tmp_path / "state"
    assert config.listens[0].records_to == "hq"
    offline = config.offline
    assert (offline.enabled, offline.environment, offline.delay, offline.recover_after) == (True, "commercial", 60, 3)
    assert (offline.admission, offline.card_memory, offline.refuse_known_bad) == ("any-card", 30 * 86400, True)
    assert offline.card_pattern.pattern == "^[0-9A-Fa-f]{4,32}$"
    assert (offline.unknown_username, offline.drain_window) == ("unknown", 256)


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    assert loaded(tmp_path, SMALL).digest == "sha256:" + hashlib.sha256(SMALL.encode()).hexdigest()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [('"500ms"', 0.5), ('"30s"', 30), ('"5m"', 300), ('"12h"', 43_200), ('"1d"', 86_400), ('"0.5s"', 0.5), ("0", 0)],
)
def test_durations_have_units(tmp_path: Path, text: str, seconds: float) -> None:
    assert loaded(tmp_path, SMALL + f"[offline]\ndelay = {text}\n").offline.delay == seconds


@pytest.mark.parametrize(("content", "secret"), [(b"abc\n", b"abc"), (b"abc\r\n", b"abc"), (b" a b \n\n", b" a b \n")])
def test_only_the_last_line_break_of_a_secret_file_is_no_part_of_it(
    tmp_path: Path, content: bytes, secret: bytes
) -> None:
    (tmp_path / "hq.secret").write_bytes(content)
    (tmp_path / "hq.secret").chmod(0o600)
    text = SMALL.replace('secret = "between us and hq"', 'secret_file = "hq.secret"')
    upstream = loaded(tmp_path, text).upstreams[0]
    assert isinstance(upstream, RadiusUpstreamConfig)
    assert upstream.secret.value == secret


def test_a_secret_never_shows_itself(tmp_path: Path) -> None:
    config = loaded(tmp_path, SMALL)
    upstream = config.upstreams[0]
    assert isinstance(upstream, RadiusUpstreamConfig)
    assert "between us" not in repr(config) + str(upstream.secret) + f"{upstream.secret}"


def test_windows_line_breaks_and_comments_are_taken(tmp_path: Path) -> None:
    assert loaded(tmp_path, SMALL.replace("\n", " # so\r\n")).name == "library"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is not stopped by the modes of files")
def test_a_config_without_secrets_may_be_read_by_all(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("secret")
    (tmp_path / "s").chmod(0o600)
    text = SMALL.replace('secret = "between us and hq"', 'secret_file = "s"').replace(
        'secret = "copiers"', 'secret_file = "s"'
    )
    assert load(write(tmp_path, text, 0o644)).name == "library"
    with pytest.raises(ConfigError, match="others may read it"):
        load(write(tmp_path, SMALL, 0o644))
