"""[snmp] and the `snmp` of a device: whose meters are read, and that no secret is shown or left open."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.config import Config, ConfigError, load
from proxy.metering.agents import Agent, User
from tests.unit.configs import SMALL


def loaded(folder: Path, text: str) -> Config:
    file = folder / "locum.toml"
    file.write_text(SMALL + text, "utf-8")
    file.chmod(0o600)
    return load(file)


def wrong(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text)
    return str(caught.value)


def test_without_snmp_nothing_is_read(tmp_path: Path) -> None:
    assert loaded(tmp_path, "").snmp is None


def test_a_device_takes_from_snmp_what_it_does_not_say(tmp_path: Path) -> None:
    (tmp_path / "community").write_text("s3cret\n")
    (tmp_path / "community").chmod(0o600)
    config = loaded(
        tmp_path,
        '[snmp]\nversion = "1"\ncommunity_file = "community"\nin_session = "2s"\n'
        '[[device]]\nid = "a"\naddress = "10.7.0.31"\nsnmp = {}\n'
        '[[device]]\nid = "b"\nsnmp = { address = "fd00::31", port = 1161, version = "2c", community = "other" }\n'
        '[[device]]\nid = "c"\n',
    )
    assert config.snmp is not None
    assert config.snmp.agents == {
        "a": Agent("10.7.0.31", 161, 1, b"s3cret"),
        "b": Agent("fd00::31", 1161, 2, b"other"),
    }
    assert (config.snmp.in_session, config.snmp.otherwise) == (2.0, 300.0)
    assert "s3cret" not in repr(config.snmp)
    assert "other" not in repr(config.snmp).replace("otherwise", "")


def test_a_context_is_of_version_3_alone(tmp_path: Path) -> None:
    secure = 'version = "3", user = "locum", context = "engine-2"'
    config = loaded(tmp_path, f'[[device]]\nid = "a"\nsnmp = {{ address = "10.7.0.31", {secure} }}\n')
    assert config.snmp is not None
    assert config.snmp.agents["a"].context == "engine-2"
    plain = 'address = "10.7.0.31", community = "x", context = "engine-2"'
    assert "only SNMPv3 has contexts" in wrong(tmp_path, f'[[device]]\nid = "a"\nsnmp = {{ {plain} }}\n')


def test_a_user_of_version_3(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        '[[device]]\nid = "a"\nsnmp = { address = "10.7.0.31", version = "3", user = "locum", auth = "sha256", '
        'auth_key = "auth-key-1", priv = "aes128", priv_key = "priv-key-1" }\n',
    )
    assert config.snmp is not None
    user = User("locum", "sha256", b"auth-key-1", "aes128", b"priv-key-1")
    assert config.snmp.agents["a"].user == user
    assert "key-1" not in repr(config.snmp)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[device]]\nid = "a"\nsnmp = { community = "x" }\n', "address is missing"),
        ('[[device]]\nid = "a"\nsnmp = { address = "10.7.0.31" }\n', "no community is given"),
        ('[[device]]\nid = "a"\nsnmp = { address = "host", community = "x" }\n', "is not an IP address"),
        ('[[device]]\nid = "a"\nsnmp = 3\n', "snmp must be a table"),
        ('[[device]]\nid = "a"\nsnmp = { address = "10.7.0.31", comunity = "x" }\n', 'did you mean "community"?'),
        ('[[device]]\nid = "a"\nsnmp = { address = "10.7.0.31", version = "3" }\n', "SNMPv3 needs a user"),
        (
            '[[device]]\nid = "a"\nsnmp = { address = "10.7.0.31", version = "3", user = "u", priv = "des" }\n',
            "priv needs auth",
        ),
        (
            '[[device]]\nid = "a"\nsnmp = { address = "10.7.0.31", version = "3", user = "u", auth = "md5", '
            'auth_key = "short" }\n',
            "fewer than 8 characters",
        ),
        ('[snmp]\nin_session = "0s"\n', "in_session must be a duration from 1s to 5m"),
        ('[snmp]\nversion = "4"\n', 'version must be "1", "2c" or "3"'),
        ('[snmp]\nmeters_file = "none.toml"\n', "does not exist"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, words: str) -> None:
    assert words in wrong(tmp_path, text)


def test_a_wrong_table_of_meters_is_named_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "meters.toml").write_text('[[vendor]]\nname = "a"\n[vendor.counters]\ntotal = ["lives"]\n')
    said = wrong(tmp_path, '[snmp]\nmeters_file = "meters.toml"\n')
    assert "meters.toml: [[vendor]] a: total: 'lives' is no formula" in said


def test_a_community_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "community"
    file.write_text("s3cret\n")
    file.chmod(0o644)
    said = wrong(tmp_path, f'[[device]]\nid = "a"\nsnmp = {{ address = "10.7.0.31", community_file = "{file}" }}\n')
    assert "open to everybody" in said
    assert "s3cret" not in said
