"""[[reader]]: what it becomes, what is refused and with which words, and what `locum check` says of it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from appliance.check import readers
from appliance.check.findings import Level
from appliance.check.running import Running
from appliance.config import ReaderConfig
from appliance.dialects import dialect
from appliance.state_dir import UNLOCK_CARD_NAME, keep_unlock_hash
from tests.unit.configs import loaded
from tests.unit.test_config_dialects import problems

UPSTREAM = """\
[[upstream]]
name = "print"
dialect = "papercut"
url = "https://print.example.org"
token = "a token that nobody guesses"
"""
LISTENS = """\
[[reader]]
device = "OLD-1"
upstream = "print"
address = "10.7.0.90"
port = 7778
listen = "0.0.0.0:17778"
"""
CONNECTS = """\
[[reader]]
device = "OLD-2"
upstream = "print"
connects = true
listen = "[::]:17779"
server = "[fd00::5]:7778"
"""
RADIUS = '[[upstream]]\nname = "hq"\ndialect = "radius"\naddress = "10.0.0.5"\nsecret = "0123456789abcdef"\n'


def test_both_ways_of_connecting(tmp_path: Path) -> None:
    more = 'session_idle = "2m"\ncommands = "rfideas"\n'
    assert loaded(tmp_path, UPSTREAM + LISTENS + CONNECTS + more).listens == (
        ReaderConfig("cardreader", "0.0.0.0", "print", "print", "OLD-1", 17778, address="10.7.0.90", reader_port=7778),
        ReaderConfig(
            "cardreader",
            "::",
            "print",
            "print",
            "OLD-2",
            17779,
            connects=True,
            server="fd00::5",
            server_port=7778,
            session_idle=120.0,
            rfideas=True,
        ),
    )


def test_another_address_is_another_reader_and_another_idle_time_is_not(tmp_path: Path) -> None:
    def channel(text: str) -> object:
        (reader,) = loaded(tmp_path, UPSTREAM + text).listens
        return dialect("cardreader").channel_of(reader)

    assert channel(LISTENS) == channel(LISTENS + 'session_idle = "2m"\n')
    assert channel(LISTENS) != channel(LISTENS.replace("7778\n", "7779\n"))
    assert channel(LISTENS) != channel(LISTENS + 'server = "10.0.0.5"\n')


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (LISTENS.replace('address = "10.7.0.90"\n', ""), 6, "address is missing: Locum connects to the reader"),
        (LISTENS.replace("port = 7778\n", ""), 6, "port is missing"),
        (LISTENS.replace("0.0.0.0:17778", "0.0.0.0"), 11, "is not an address with its port"),
        (LISTENS.replace("0.0.0.0:17778", "0.0.0.0:0"), 11, "is not an address with its port"),
        (LISTENS.replace("0.0.0.0:17778", "locum.example.org:17778"), 11, "is not an IP address"),
        (LISTENS + 'server = "10.0.0.5:1"\n', 12, "is not an IP address"),
        (LISTENS.replace('"print"', '"prunt"'), 8, 'did you mean "print"?'),
        (LISTENS.replace('"print"', '"hq"') + RADIUS, 8, "name an upstream of dialect papercut or terminal"),
        (CONNECTS.replace('server = "[fd00::5]:7778"\n', ""), 6, "server is missing"),
        (CONNECTS.replace('"[fd00::5]:7778"', '"fd00::5"'), 11, "is not an address with its port"),
        (CONNECTS + "port = 7778\n", 12, "a reader that connects has no port"),
        (CONNECTS + 'commands = "morse"\n', 12, 'must be "auto", "plain" or "rfideas"'),
        (LISTENS + "sesion_idle = 1\n", 12, 'did you mean "session_idle"?'),
        (LISTENS + LISTENS.replace("17778", "17779"), 13, 'reader\'s device "OLD-1" is used twice'),
        (LISTENS + LISTENS.replace("OLD-1", "OLD-3"), 17, "port 17778 of 0.0.0.0 is taken"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    found = problems(tmp_path, UPSTREAM + text)
    assert len(found) == 1, found
    assert words in found[0][1]
    assert found[0][0] == line


def test_check_says_what_a_reader_needs(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reader:
        there = LISTENS.replace("10.7.0.90", "127.0.0.1").replace("7778\nlisten", f"{reader.getsockname()[1]}\nlisten")
        config = loaded(tmp_path, UPSTREAM + there + 'server = "10.0.0.5"\n')
        (finding,) = readers.findings(config, None)
        assert (finding.level, "takes connections" in finding.text) == (Level.OK, True)
        assert list(readers.findings(config, Running())) == []
    (finding,) = readers.findings(config, None)
    assert (finding.level, "takes no connection" in finding.text) == (Level.WARNING, True)


def test_check_warns_of_an_open_line_and_of_a_school_without_an_unlock_card(tmp_path: Path) -> None:
    school = '[offline]\nenvironment = "education"\n'
    config = loaded(tmp_path, UPSTREAM + LISTENS + school + f'[appliance]\nstate_dir = "{tmp_path}/state"\n')
    config.state_dir.mkdir(mode=0o700)
    line, card = readers.findings(config, Running())
    assert "is taken for the server" in line.text
    assert "unlock-code set --card" in card.text
    keep_unlock_hash(config.state_dir, "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA", UNLOCK_CARD_NAME)
    assert [each.level for each in readers.findings(config, Running())] == [Level.WARNING, Level.OK]
