"""`locum doctor`: what a helper needs is in the archive, and no secret, no code and nobody's name or card."""

from __future__ import annotations

import json
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from appliance.cli import main
from appliance.config import tables
from appliance.doctor import redacting
from appliance.state_dir import keep_unlock_hash, signing_key
from proxy.net.codes import hash_code
from storage.ledger import Ledger
from tests.unit.storage_samples import NOW, job, login

CONFIG = """\
# The old secret was planted-comment, ask planted-anna.
[appliance]
name = "library"
state_dir = "{state}"

[[upstream]]
name = "hq"
dialect = "radius"
address = "127.0.0.1"
auth_port = 9
accounting_port = 9
answer_timeout = "50ms"
secret_file = "hq.secret"
test_login = {{ user = "planted-user", password = 'planted "pass" word' }}

[[upstream]]
name = "print"
dialect = "papercut"
url = "https://127.0.0.1:9"
answer_timeout = "50ms"
token = "planted-token"

[[listen]]
dialect = "radius"
bind = "127.0.0.1"
upstream = "hq"
clients = [{{ network = "10.7.0.0/24", secret = "planted-copiers" }}]

[[device]]
id = "OLD-1"
snmp = {{ address = "127.0.0.1", port = 9, community = "planted-old" }}

[snmp]
version = "3"
user = "planted-v3"
auth = "sha256"
auth_key = "planted-authentication"
priv = "aes128"
priv_key = "planted-privacy"
"""
PLANTED = (
    "planted", "04A1C3F4", "cdiaz", "Carla Diaz", "thesis.pdf", "314159", "$argon2id$", "PRIVATE KEY",
)  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Path:
    state = tmp_path / "state"
    state.mkdir(mode=0o750)
    (tmp_path / "hq.secret").touch(mode=0o600)
    (tmp_path / "hq.secret").write_text("planted-in-a-file\n")
    (tmp_path / "locum.toml").touch(mode=0o600)
    (tmp_path / "locum.toml").write_text(CONFIG.format(state=state))
    keep_unlock_hash(state, hash_code("314159"))
    ledger = Ledger.open(state / "ledger.db", NOW, signing_key(state))
    record = job(1)
    personal = type(record.personal)(card="04A1C3F4", user="cdiaz", document="thesis.pdf", raw=b"planted-raw")
    ledger.commit([login("04A1C3F4"), job(2, personal=personal)])
    ledger.close(NOW)
    return tmp_path


def texts(file: Path) -> Iterator[tuple[str, str]]:
    with tarfile.open(file) as archive:
        for member in archive.getmembers():
            content = archive.extractfile(member)
            assert content is not None
            yield member.name.removeprefix("locum-doctor/"), content.read().decode()


def gather(home: Path, name: str = "out.tar.gz") -> dict[str, str]:
    assert main(["doctor", "-c", str(home / "locum.toml"), "--output", str(home / name)]) == 0
    return dict(texts(home / name))


def test_nothing_of_people_and_no_secret_is_in_the_archive(home: Path) -> None:
    found = gather(home)
    whole = "\n".join(f"{name}\n{text}" for name, text in found.items())
    assert [each for each in PLANTED if each in whole] == []


def test_what_a_helper_needs_is_in_the_archive(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = gather(home)
    said = capsys.readouterr().out
    config = json.loads(found["config.json"])
    assert config["upstream"][0]["address"] == "127.0.0.1"
    assert config["upstream"][0]["test_login"] == {"user": "(removed)", "password": "(removed)"}
    assert config["listen"][0]["clients"] == [{"network": "10.7.0.0/24", "secret": "(removed)"}]
    assert "error    upstream hq" in found["check.txt"] or "warning  upstream hq" in found["check.txt"]
    assert "entries 2" in found["ledger.txt"]
    assert "ledger.db" in found["files.txt"]
    assert "signing.key" in found["files.txt"]
    assert "no Locum runs" in found["status.json"]
    assert "kernel " in found["versions.txt"]
    assert "twisted" in found["versions.txt"].lower()
    assert "bytes free" in found["disk.txt"]
    for name in found:
        assert name == "README.txt" or name in found["README.txt"]
        assert name == "README.txt" or name in said


def test_only_its_owner_may_read_the_archive_and_none_is_overwritten(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gather(home)
    file = home / "out.tar.gz"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.read_bytes()
    assert main(["doctor", "-c", str(home / "locum.toml"), "--output", str(file)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert file.read_bytes() == before


def test_a_configuration_with_mistakes_is_told_without_what_stands_there(home: Path) -> None:
    file = home / "locum.toml"
    text = file.read_text().replace('secret_file = "hq.secret"', 'secret_file = "planted/aB+cd=="')
    file.write_text(text + '\n[offline]\nsecrt = "planted-misspelt"\ndelay = "fast"\n[planted]\nkey = "planted-key"\n')
    found = gather(home)
    assert "unknown key" in found["check.txt"]
    assert "delay must be" in found["check.txt"]
    whole = "\n".join(text for name, text in found.items())
    assert [each for each in ("planted/aB", "planted-misspelt", "planted-key", "planted-token") if each in whole] == []


@pytest.mark.parametrize("text", ['secret = "planted', "secret = planted-bare", "\x00\xff"])
def test_a_configuration_that_is_no_toml_is_not_shown(home: Path, text: str) -> None:
    (home / "locum.toml").write_text(text)
    found = gather(home)
    assert "planted" not in "\n".join(found.values())
    assert "cannot be told" in found["config.json"]
    assert "status.json" not in found


def test_every_key_that_holds_a_secret_is_known_as_one() -> None:
    structs = [each for each in vars(tables).values() if isinstance(each, type) and issubclass(each, msgspec.Struct)]
    secret = {
        field.encode_name
        for each in structs
        for field in msgspec.structs.fields(each)
        if "a text that is not empty" in repr(field.type)
    }
    assert secret == redacting.SECRET_KEYS


def test_of_the_log_only_lines_of_known_form_are_kept_without_who_did_it() -> None:
    lines = [
        ("locum", "2026-11-23T10:15:03.120Z warning hq is OFFLINE cause=\"no answer\""),
        ("locum", '2026-11-23T10:15:03.120Z warning a drill begins who="planted, uid 1000" reason="for \\"planted\\""'),
        ("locum", '{"time": "2026-11-23T10:15:03.120Z", "level": "info", "text": "t", "who": "planted", "port": 1}'),
        ("locum", "2026-11-23T10:15:03.120Z debug received planted"),
        ("locum", "ValueError: planted"),
        ("locum", '  File "/opt/locum/x.py", line 3, in planted'),
        ("locum", "/etc/locum/locum.toml:3: planted is no file"),
        ("locum-inline", "/etc/locum/locum.toml:3: planted is no file"),
        ("locum-inline", "/etc/locum/locum.toml: planted"),
        ("locum", "Fatal Python error: Aborted"),
        ("locum", 'Thread 0x00007f (most recent call first):'),
        ("locum", '  File "/opt/locum/x.py", line 3 in work'),
    ]  # fmt: skip
    ours = [
        ("systemd", "locum.service: Watchdog timeout (limit 30s)!"),
        ("locum-inline", "error: there is no interface eth1"),
        ("locum", "locum: 0.0.0.0 port 1812 is taken"),
    ]
    kept = list(redacting.log_lines(redacting.Entry("AT", *each) for each in [*lines, *ours]))
    assert "planted" not in "\n".join(kept)
    assert kept == [
        lines[0][1],
        "2026-11-23T10:15:03.120Z warning a drill begins",
        '{"time": "2026-11-23T10:15:03.120Z", "level": "info", "text": "t", "port": 1}',
        *(line for _, line in lines[9:]),
        "AT systemd: locum.service: Watchdog timeout (limit 30s)!",
        "AT locum-inline: error: there is no interface eth1",
        "AT locum: 0.0.0.0 port 1812 is taken",
    ]


def test_what_was_removed_is_removed_wherever_it_stands() -> None:
    removed = {'a "quoted" one', "long-secret-and-more", "long-secret", "abc"}
    text = 'x a "quoted" one, a \\"quoted\\" one, long-secret-and-more long-secret abc'
    assert redacting.without(text, removed) == "x (removed), (removed), (removed) (removed) abc"
