"""Whatever the file holds, loading gives a Config or a ConfigError of whole lines."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from appliance.config import Config, ConfigError, load
from appliance.init.certificate import self_signed
from tests.unit.configs import SMALL, write

KEYS = [
    *sorted({line.split(" = ")[0] for line in SMALL.splitlines() if " = " in line}),
    "offline", "radius", "job", "test_login", "answer_timeout", "delay", "card_pattern", "records_to", "device", "id",
    "[upstream]", "[[upstream]]", "[[listen]]", "[offline]", "[[device]]", "[radius]", "[radius.job]", "[appliance]",
    "url", "token", "ca_file", "time_zone", "card_regex", "card_converters", "tls", "port", "drain_window", "syslog",
    "certificate_sha256", "max_pages_per_card", "environment", "[alerts]", "[metrics]", "[metrics.x]", "alerts",
]  # fmt: skip
VALUES = [
    "1", "-1", "1e400", "nan", "true", '"x"', '""', "[]", "{}", '["a", 1]', "[{}]", "[[]]", "07:32:00", "1979-05-27",
    '"radius"', '"terminal"', '"papercut"', '"hq"', '"10.0.0.0/8"', '"::"', '"30s"', '"\\u0000"', '"https://x"',
    '"http://[::1"', '"udp://:0"', '"Europe"', '"../../etc/passwd"', "{ ca_file = 'locum.toml' }", '"x:99999999"',
    "{ certificate_file = '/dev/null', key_file = 'locum.toml' }", '["hex2dec"]', '"' + "ab" * 32 + '"', '"(x)"',
    "9" * 30, '"("', "[",
]  # fmt: skip
CERTIFICATE, KEY = self_signed("fuzz", "127.0.0.1")
WHOLE = """\
[[upstream]]
name = "print"
dialect = "papercut"
url = "https://print.example.org:9195/rpc"
token = "a token"
ca_file = "own.crt"
time_zone = "Europe/Berlin"
card_regex = "^;?([0-9A-F]+)"
card_converters = ["hex2dec"]
[[listen]]
dialect = "terminal"
bind = "127.0.0.1"
upstream = "print"
tls = { certificate_file = "own.crt", key_file = "own.key", client_ca_file = "own.crt" }
[alerts]
syslog = ["udp://10.0.0.9", "tcp://[::1]:6514"]
[metrics]
port = 9464
"""
statements = st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(VALUES)), max_size=12)


def outcome(folder: Path, content: bytes) -> Config | ConfigError:
    try:
        return load(write(folder, content))
    except ConfigError as refused:
        error = refused
    assert error.problems
    assert all(problem.line >= 1 for problem in error.problems)
    assert len(str(error).splitlines()) == len(error.problems)
    return error


fuzz = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@fuzz
@given(st.binary(max_size=200))
@example(b"x = " + b"[" * 5000)
@example(b"x = " + b"{a=" * 5000)
@example(b"x = " + b"9" * 5000)
@example(b"a" + b".a" * 5000 + b" = 1")
@example(b"x = 2000-99-99")
@example(b"\xef\xbb\xbfx = 1")
@example(b"x = 1\r")
def test_any_bytes_are_a_config_or_a_config_error(tmp_path: Path, content: bytes) -> None:
    outcome(tmp_path, content)


@fuzz
@given(statements, st.integers(0, len(SMALL)))
def test_any_keys_with_any_values_are_a_config_or_a_config_error(
    tmp_path: Path, lines: list[tuple[str, str]], cut: int
) -> None:
    text = "\n".join(key if key.startswith("[") else f"{key} = {value}" for key, value in lines)
    outcome(tmp_path, (SMALL[:cut] + "\n" + text).encode())
    outcome(tmp_path, (SMALL + text).encode())


@fuzz
@given(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=3))
def test_any_damage_to_a_file_of_all_dialects_is_a_config_or_a_config_error(
    tmp_path: Path, at: int, damage: bytes
) -> None:
    for name, content in (("own.crt", CERTIFICATE), ("own.key", KEY)):
        if not (tmp_path / name).exists():
            (tmp_path / name).write_bytes(content)
            (tmp_path / name).chmod(0o600)
    whole = WHOLE.encode()
    assert isinstance(outcome(tmp_path, whole), Config)
    outcome(tmp_path, whole[:at] + damage + whole[at + len(damage) :])


@fuzz
@given(st.integers(0, len(SMALL) - 1), st.binary(min_size=1, max_size=3))
def test_any_damage_to_a_good_file_is_a_config_or_a_config_error(tmp_path: Path, at: int, damage: bytes) -> None:
    whole = SMALL.encode()
    outcome(tmp_path, whole[:at] + damage + whole[at + len(damage) :])


def test_the_small_config_itself_holds(tmp_path: Path) -> None:
    assert isinstance(outcome(tmp_path, SMALL.encode()), Config)


def test_a_path_that_cannot_be_one_is_a_config_error() -> None:
    with pytest.raises(ConfigError):
        load(Path("a\0b"))
