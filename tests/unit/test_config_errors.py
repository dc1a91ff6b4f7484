"""Each mistake in a configuration is named with its line and with what to do."""

import os
from pathlib import Path

import pytest

from appliance.config import MAX_BYTES, ConfigError, RadiusListenConfig, load
from tests.unit.configs import SMALL, loaded, write


def problems(folder: Path, text: str | bytes) -> list[tuple[int, str]]:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text)
    return [(problem.line, problem.text) for problem in caught.value.problems]


def changed(old: str, new: str) -> str:
    assert old in SMALL
    return SMALL.replace(old, new)


CASES = {
    "unknown key, near one": (
        changed("address =", "adress ="), 8,
        'unknown key "adress" in [[upstream]]; did you mean "address"?',
    ),
    "unknown key, none near": (SMALL + "[offline]\nqq = 1\n", 17, 'unknown key "qq" in [offline]; known here: enabled'),
    "unknown section": (SMALL + "[ofline]\n", 16, 'unknown key "ofline" in the file; did you mean "offline"?'),
    "unknown key of an inline table": (changed("network =", "net ="), 15, 'unknown key "net" in clients of [[listen]]'),
    "missing key": (changed('bind = "127.0.0.1"\n', ""), 11, 'bind is missing in [[listen]]; add bind = "0.0.0.0"'),
    "wrong type": (
        SMALL + "[offline]\nenabled = 1\n", 17,
        "enabled must be true or false, not 1; for example enabled = true",
    ),
    "section of a wrong type": ("offline = 3\n" + SMALL, 1, "offline must be a table, not 3"),
    "wrong list": (changed('"10.0.0.5"', "[]"), 8, "address is an empty list"),
    "wrong word": (
        SMALL + '[offline]\nadmission = "all"\n', 17,
        'admission must be "any-card" or "known-cards", not "all"',
    ),
    "no unit": (SMALL + '[offline]\ndelay = "60"\n', 17, "delay must be a duration from 0s to 7d"),
    "number as a duration": (SMALL + "[offline]\ndelay = 60\n", 17, "delay must be a duration from 0s to 7d, not 60"),
    "too long": (SMALL + '[offline]\ndelay = "8d"\n', 17, "delay must be a duration from 0s to 7d"),
    "port 0": (
        changed("bind =", "auth_port = 0\nbind ="), 13,
        "auth_port must be a whole number from 1 to 65535, not 0",
    ),
    "port 65536": (
        changed("bind =", "auth_port = 65536\nbind ="), 13,
        "auth_port must be a whole number from 1 to 65535",
    ),
    "one port twice": (changed("bind =", "auth_port = 1813\nbind ="), 13, "auth_port and accounting_port are the same"),
    "bad pattern": (SMALL + '[offline]\ncard_pattern = "("\n', 17, 'card_pattern "(" is not a regular expression'),
    "doubtful pattern": (SMALL + '[offline]\ncard_pattern = "[[a]"\n', 17, "is not a regular expression"),
    "no address": (
        changed("10.0.0.5", "10.0.0.300"), 8,
        'address "10.0.0.300" is neither an IP address nor a host name',
    ),
    "address with a port": (changed("10.0.0.5", "hq:1812"), 8, 'address "hq:1812" holds a port'),
    "address with a port, IPv6": (changed("10.0.0.5", "[::1]:1812"), 8, 'address "[::1]:1812" holds a port'),
    "an address twice": (changed('"10.0.0.5"', '["::1", "[::1]"]'), 8, "names the same address twice"),
    "bind to a name": (changed("127.0.0.1", "localhost"), 13, 'bind "localhost" is not an IP address'),
    "host bits": (
        changed("10.7.0.0/24", "10.7.0.9/24"), 15,
        "write 10.7.0.0/24 for the network or 10.7.0.9 for one device",
    ),
    "no network": (changed("10.7.0.0/24", "ten"), 15, 'network "ten" is not a network'),
    "unknown upstream": (
        changed('upstream = "hq"', 'upstream = "hg"'), 14,
        'upstream names the upstream "hg", which is not there; did you mean "hq"?',
    ),
    "unknown upstream for records": (changed('upstream = "hq"', 'upstream = "hq"\nrecords_to = "zz"'), 15, "known: hq"),
    "both secrets": (
        changed('secret = "copiers"', 'secret = "a", secret_file = "b"'), 15,
        "both secret and secret_file are given",
    ),
    "no secret": (changed('secret = "between us and hq"\n', ""), 5, "no secret is given; add secret_file"),
    "empty secret": (changed('"copiers"', '""'), 15, "secret must be a text that is not empty"),
    "role nearly copier": (
        changed('secret = "copiers"', 'secret = "x", role = "copiers"'), 15,
        'did you mean "copier"?',
    ),
    "no device speaks papercut": (
        changed('dialect = "radius"\nbind', 'dialect = "papercut"\nbind'), 12,
        "no device speaks the dialect papercut",
    ),
    "listener of another dialect": (
        SMALL + '[[listen]]\ndialect = "terminal"\nbind = "::1"\nupstream = "hq"\n', 19,
        'upstream names "hq", which speaks radius and not terminal; name an upstream of dialect terminal or papercut',
    ),
    "records to another dialect": (
        SMALL.replace('upstream = "hq"', 'upstream = "hq"\nrecords_to = "lab"')
        + '[[upstream]]\nname = "lab"\ndialect = "terminal"\naddress = "::1"\n', 15,
        'records_to names "lab", which speaks terminal and not radius',
    ),
    "no such dialect": (
        changed('dialect = "radius"\naddress', 'dialect = "ldap"\naddress'), 7,
        'dialect must be "radius", "terminal" or "papercut"',
    ),
    "section to come": (
        SMALL + "[console]\nport = 443\n", 16,
        "this version does not have [console] yet; remove the section",
    ),
    "no limit of none": (
        SMALL + "[offline]\nmax_pages_per_card = 0\n", 17,
        "max_pages_per_card must be a whole number from 1",
    ),
    "hours of one device": (
        SMALL + '[[device]]\nid = "a"\noffline = { max_outage_hours = 3 }\n', 18,
        "max_outage_hours cannot differ for one device",
    ),
    "syslog without a kind": (
        SMALL + '[alerts]\nsyslog = "10.0.0.9"\n', 17,
        'syslog "10.0.0.9" is no address of a syslog server; write for example udp://10.0.0.9:514',
    ),
    "syslog in a list": (
        SMALL + '[alerts]\nsyslog = ["udp://10.0.0.9",\n"tls://10.0.0.9"]\n', 18, "is no address of a syslog server",
    ),
    "metrics on a name": (SMALL + '[metrics]\nbind = "localhost"\n', 17, 'bind "localhost" is not an IP address'),
    "no fingerprint": (
        SMALL + '[[device]]\nid = "a"\ncertificate_sha256 = "abcd"\n', 18,
        "certificate_sha256 must be the SHA-256 of a certificate, 64 hexadecimal digits",
    ),
    "dictionary": (SMALL + '[radius]\ndictionary_files = [\n"none"]\n', 18, "is not there; correct its path"),
    "job field": (
        SMALL + '[radius.job]\npage = "X"\n', 17,
        'unknown key "page" in job of [radius]; did you mean "pages"?',
    ),
    "delay of one device": (
        SMALL + '[[device]]\nid = "a"\noffline.delay = "1s"\n', 18,
        "delay cannot differ for one device",
    ),
    "not TOML": (SMALL + "[offline\n", 16, "is not TOML"),
    "not TOML after a long inline table": (changed("clients = [{", "clients = [{\n\n") + "x = \n", 18, "is not TOML"),
    "text that does not end": (SMALL + 'x = """\n', 17, "is not TOML"),
    "key twice": (SMALL + "[offline]\ndelay = 0\ndelay = 0\n", 18, "is not TOML (Cannot overwrite a value)"),
    "not UTF-8": (SMALL.encode() + b"# \xff\n", 16, "holds bytes that are not UTF-8"),
    "nothing": ("", 1, "there is no [[upstream]]"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, case: str) -> None:
    text, line, said = CASES[case]
    found = problems(tmp_path, text)
    assert any(at == line and said in what for at, what in found), found
    assert all(";" in what and "\n" not in what for _, what in found), found


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = changed("10.0.0.5", "10.0.0.300").replace("upstream = ", "upsteam = ") + "[offline]\ndelay = 1\n"
    assert [line for line, _ in problems(tmp_path, text)] == [8, 14, 17]


def test_a_mistake_reads_as_file_line_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, SMALL + "[ofline]\n")
    said = f'{tmp_path}/locum.toml:16: unknown key "ofline" in the file; did you mean "offline"?'
    assert str(caught.value) == said


def test_overlapping_networks_are_refused_and_neighbours_are_not(tmp_path: Path) -> None:
    clients = 'clients = [{ network = "10.7.0.0/24", secret = "a" },\n{ network = "%s", secret = "b" }]'
    text = SMALL.replace('clients = [{ network = "10.7.0.0/24", secret = "copiers" }]', clients)
    assert problems(tmp_path, text % "10.7.0.31") == [
        (16, "network 10.7.0.31/32 overlaps 10.7.0.0/24; a device must belong to one client only")
    ]
    for neighbour in ("10.7.1.0/24", "::/0"):
        listen = loaded(tmp_path, text % neighbour).listens[0]
        assert isinstance(listen, RadiusListenConfig)
        assert len(listen.clients) == 2


def test_names_and_addresses_stand_once(tmp_path: Path) -> None:
    upstream = '[[upstream]]\nname = "hq"\ndialect = "radius"\naddress = "10.0.0.6"\nsecret = "x"\n'
    assert problems(tmp_path, SMALL + upstream) == [
        (17, 'upstream name "hq" is used twice (first in line 6); change one of them')
    ]
    device = '[[device]]\nid = "a"\naddress = "10.7.0.1"\n'
    assert [line for line, _ in problems(tmp_path, SMALL + device + device)] == [20, 21]


def test_two_listeners_cannot_have_one_port(tmp_path: Path) -> None:
    listen = SMALL[SMALL.index("[[listen]]") :]
    second = listen.replace("127.0.0.1", "0.0.0.0")
    (first, *_) = problems(tmp_path, SMALL + second)
    assert first == (18, "port 1812 of 0.0.0.0 is taken by the listener in line 13; change bind or the port")
    other_ports = second.replace("upstream", "auth_port = 1645\naccounting_port = 1646\nupstream")
    assert len(loaded(tmp_path, SMALL + other_ports).listens) == 2
    assert len(loaded(tmp_path, SMALL + listen.replace("127.0.0.1", "::1")).listens) == 2


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (None, 0, "does not exist; write the secret into it"),
        (b"", 0o600, "is empty; write the secret into it"),
        (b"\n", 0o600, "is empty"),
        (b"x", 0o604, "is open to everybody; run: chmod o-rwx"),
        (b"x" * 2000, 0o600, "is longer than 1024 bytes"),
    ],
)
def test_a_secret_file_must_hold_a_secret_and_keep_it(
    tmp_path: Path, content: bytes | None, mode: int, said: str
) -> None:
    if content is not None:
        (tmp_path / "hq.secret").write_bytes(content)
        (tmp_path / "hq.secret").chmod(mode)
    ((line, what),) = problems(tmp_path, changed('secret = "between us and hq"', 'secret_file = "hq.secret"'))
    assert line == 9
    assert said in what


def test_a_secret_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "hq.secret").mkdir()
    ((_, what),) = problems(tmp_path, changed('secret = "between us and hq"', 'secret_file = "hq.secret"'))
    assert "is not a regular file" in what


def test_a_pipe_is_no_secret_file_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hq.secret")
    ((_, what),) = problems(tmp_path, changed('secret = "between us and hq"', 'secret_file = "hq.secret"'))
    assert "is not a regular file" in what


def test_a_secret_is_not_repeated_in_a_message(tmp_path: Path) -> None:
    ((_, what),) = problems(tmp_path, changed('secret = "copiers"', "secret = 12345678"))
    assert "12345678" not in what


def test_a_file_that_is_not_there_or_too_large_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file; name the configuration with -c FILE"):
        load(tmp_path / "locum.toml")
    with pytest.raises(ConfigError, match="is it the right file"):
        load(write(tmp_path, "#" * (MAX_BYTES + 1)))
    with pytest.raises(ConfigError, match="is not a regular file"):
        load(tmp_path)
