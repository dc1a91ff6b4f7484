"""How commands reach the ledger: through the appliance if one runs, else the file itself, with who did it in either."""

from __future__ import annotations

import json
import os
import pwd
import socket
import sqlite3
import stat
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from appliance.cli.common import Failed
from appliance.client import ClientError, control_socket
from appliance.control import Refusal
from appliance.ledger_access import change, zone_of
from appliance.ledger_hands import LedgerHands
from appliance.state_dir import LEDGER_NAME, SIGNING_KEY_NAME, public_key
from proxy.commands import Command, Keep
from proxy.events import Kept, Moment, NotKept
from storage import signed
from storage.checkpoints import lines_in
from storage.database import reading
from storage.errors import StorageError
from storage.ledger import Ledger
from storage.records import Login, Mode, Personal
from tests.unit.configs import SMALL, loaded, write
from tests.unit.control_peer import ControlPeer
from tests.unit.storage_samples import job, login

WALL = 1_795_000_000_000
READING = {"device": "KM-1", "counter": "total", "value": 12, "taken_at": WALL}


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """A state directory with a ledger, and nobody who works on it."""
    made = tmp_path / "state"
    made.mkdir(mode=0o750)
    Ledger.open(made / LEDGER_NAME, WALL).close()
    return made


def query(state_dir: Path, sql: str) -> list[tuple[Any, ...]]:
    with reading(state_dir / LEDGER_NAME) as connection:
        return connection.execute(sql).fetchall()


def _login(card: str) -> Login:
    how = ("card", "granted", "locum", "offline", Mode.OFFLINE)
    return Login(WALL, "radius", "hq", "KM-1", "10.0.0.1", *how, Personal(card))


def test_the_appliance_is_asked_where_one_runs(state_dir: Path) -> None:
    with ControlPeer(state_dir, ledger_note={"seq": 5}) as appliance:
        assert change(state_dir, "ledger-note", note="export", data={"to": "x"}) == {"seq": 5}
    assert appliance.asked == [{"command": "ledger-note", "note": "export", "data": {"to": "x"}}]
    assert query(state_dir, "SELECT count(*) FROM entries") == [(0,)]


def test_its_refusal_is_final(state_dir: Path) -> None:
    with ControlPeer(state_dir, ledger_erase=RuntimeError("name the card")), pytest.raises(ClientError, match="card"):
        change(state_dir, "ledger-erase", card="")
    assert query(state_dir, "SELECT count(*) FROM entries") == [(0,)]


def test_a_socket_that_nobody_listens_on_is_no_appliance(state_dir: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead, control_socket(state_dir) as path:
        dead.bind(path)
    assert change(state_dir, "ledger-sign")["seq"] == 1


def test_without_an_appliance_the_ledger_is_signed_and_its_key_noted_once(state_dir: Path) -> None:
    first = change(state_dir, "ledger-sign")
    assert (first["seq"], first["number"]) == (1, 1), "the key's note is the first entry"
    (line,) = lines_in(first["line"])
    assert line.signed()
    assert line.public_key == public_key(state_dir)
    assert change(state_dir, "ledger-sign") == first
    assert stat.S_IMODE((state_dir / SIGNING_KEY_NAME).stat().st_mode) == 0o600


def test_without_an_appliance_what_is_done_says_who_did_it_and_is_signed(state_dir: Path) -> None:
    name = f"{pwd.getpwuid(os.getuid()).pw_name}, uid {os.getuid()} (by hand, appliance stopped)"
    seq = change(state_dir, "ledger-note", note="export", data={"to": "x", "through": 1})["seq"]
    assert query(state_dir, f"SELECT note, who, data FROM notes WHERE seq = {seq}") == [
        ("export", name, '{"through":1,"to":"x"}')
    ]
    seqs = change(state_dir, "meters-add", readings=[READING, {**READING, "value": 13}])["seqs"]
    assert query(state_dir, "SELECT seq, value, who FROM meters ORDER BY seq") == [
        (seqs[0], 12, name),
        (seqs[1], 13, name),
    ]
    with reading(state_dir / LEDGER_NAME) as connection:
        newest = signed.newest(connection)
    assert newest is not None
    assert newest.seq == seqs[1]


def test_without_an_appliance_a_card_is_erased(state_dir: Path) -> None:
    ledger = Ledger.open(state_dir / LEDGER_NAME, WALL)
    ledger.commit([_login("0A1B2C3D"), _login("FFFFFFFF")])
    ledger.close()
    done = change(state_dir, "ledger-erase", card="0A1B2C3D", reason="asked for")
    assert (done["entries"], done["first"], done["waiting"]) == (1, 1, 0)
    assert query(state_dir, "SELECT card FROM personal WHERE card <> ''") == [("FFFFFFFF",)]
    assert b"0A1B2C3D" not in b"".join(file.read_bytes() for file in state_dir.iterdir())


@pytest.mark.parametrize("missing", ["a directory", "a ledger"])
def test_where_there_is_no_ledger_none_is_made(tmp_path: Path, missing: str) -> None:
    state_dir = tmp_path / "state"
    if missing == "a ledger":
        state_dir.mkdir(mode=0o750)
    with pytest.raises(Failed, match="there is no ledger") as raised:
        change(state_dir, "ledger-sign")
    assert raised.value.status == 2
    assert not list(state_dir.glob("*"))


def test_a_ledger_in_use_is_left_alone(state_dir: Path) -> None:
    ledger = Ledger.open(state_dir / LEDGER_NAME, WALL)
    try:
        with pytest.raises(Failed, match="another Locum") as raised:
            change(state_dir, "ledger-sign")
    finally:
        ledger.close()
    assert raised.value.status == 1


def test_what_is_no_ledger_is_wrong_input(state_dir: Path) -> None:
    (state_dir / LEDGER_NAME).unlink()
    with closing(sqlite3.connect(state_dir / LEDGER_NAME)) as other:
        other.execute("CREATE TABLE theirs (a)")
    with pytest.raises(Failed) as raised:
        change(state_dir, "ledger-sign")
    assert raised.value.status == 2
    assert "\n" not in str(raised.value)


def test_a_state_directory_that_others_may_look_into_is_refused(state_dir: Path) -> None:
    state_dir.chmod(0o755)
    with pytest.raises(ClientError, match="chmod o-rwx"):
        change(state_dir, "ledger-sign")


def test_a_request_that_makes_no_sense_touches_nothing(state_dir: Path) -> None:
    before = sorted(file.name for file in state_dir.iterdir())
    with pytest.raises(ClientError, match="name the card"):
        change(state_dir, "ledger-erase", card="")
    assert sorted(file.name for file in state_dir.iterdir()) == before


def test_what_root_makes_belongs_to_the_owner_of_the_directory(state_dir: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    for file in (state_dir, *state_dir.iterdir()):
        os.chown(file, 12345, 12345)
    change(state_dir, "ledger-note", note="export", data={"to": "x"})
    assert {(file.stat().st_uid, file.stat().st_gid) for file in state_dir.iterdir()} == {(12345, 12345)}


class Kitchen:
    """A driver whose stable storage is the ledger's, or which can store only the first few things."""

    def __init__(self, ledger: Ledger | None = None, stores: int = 0) -> None:
        self._ledger = ledger
        self._stores = stores

    def run(self, commands: Sequence[Command]) -> None:
        at = Moment(0.0, WALL, bytes(32))
        keeps = [command for command in commands if isinstance(command, Keep)]
        stored = self._ledger.commit([keep.change for keep in keeps[: self._stores]]) if self._ledger else []
        for place, keep in enumerate(keeps):
            assert keep.owner is not None
            outcome = stored[place] if place < len(stored) else StorageError("the disk is full")
            if isinstance(outcome, StorageError):
                keep.owner.handle(NotKept(keep.token, str(outcome), at))
            else:
                keep.owner.handle(Kept(keep.token, outcome, at))


def asked(kitchen: Kitchen, command: str, *, forget: Callable[[str], None] = print, **request: object) -> Any:
    """The appliance's answer, or its refusal."""
    promised = LedgerHands(kitchen, forget).handlers()[command]({"command": command, **request}, "ada")
    assert isinstance(promised, Deferred)
    said: list[Any] = []
    promised.addBoth(said.append)
    return said[0]


def test_the_appliance_answers_when_all_of_it_is_stored(state_dir: Path) -> None:
    ledger = Ledger.open(state_dir / LEDGER_NAME, WALL)
    try:
        readings = [{**READING, "value": value} for value in range(5)]
        assert asked(Kitchen(ledger, 5), "meters-add", readings=readings) == {"seqs": [1, 2, 3, 4, 5]}
    finally:
        ledger.close()


def test_the_appliance_says_what_it_could_not_store(state_dir: Path) -> None:
    ledger = Ledger.open(state_dir / LEDGER_NAME, WALL)
    try:
        some = asked(Kitchen(ledger, 2), "meters-add", readings=[READING] * 3)
        none = asked(Kitchen(), "ledger-note", note="export", data={})
    finally:
        ledger.close()
    assert isinstance(some.value, Refusal)
    assert str(some.value) == "1 of 3 could not be stored: the disk is full"
    assert str(none.value) == "it could not be stored: the disk is full"


def test_a_card_that_was_erased_is_forgotten_by_the_running_appliance_too(state_dir: Path) -> None:
    forgotten: list[str] = []
    ledger = Ledger.open(state_dir / LEDGER_NAME, WALL)
    try:
        ledger.commit([login("04A2"), job(1, personal=Personal(card="0777"))])
        asked(Kitchen(ledger, 1), "ledger-erase", forget=forgotten.append, card="0777")
        asked(Kitchen(ledger, 1), "ledger-erase", forget=forgotten.append, card="04A2")
    finally:
        ledger.close()
    assert forgotten == ["04A2"]


def test_the_appliance_refuses_what_makes_no_sense() -> None:
    with pytest.raises(Refusal, match="no such note"):
        LedgerHands(Kitchen(), print).handlers()["ledger-note"]({"note": "start", "data": {}}, "ada")


def test_times_are_shown_in_the_zone_of_the_option_then_the_configuration_then_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    text = SMALL + '[ledger]\ntime_zone = "Europe/Berlin"\n'
    config = loaded(tmp_path, text)
    file = write(tmp_path, text)
    for given in (config, file):
        assert zone_of(given, "America/New_York").key == "America/New_York"
        assert zone_of(given, None).key == "Europe/Berlin"
    plain = write(tmp_path, SMALL + "[mistake]\n")
    assert zone_of(plain, None).key == "Asia/Tokyo", "whatever else is wrong with the file"
    assert zone_of(None, None).key == "Asia/Tokyo"


def test_a_zone_that_nobody_knows_is_wrong_usage() -> None:
    with pytest.raises(Failed, match="Europe/Berlin") as raised:
        zone_of(None, "Europe/Berlln")
    assert raised.value.status == 2


def test_a_note_by_hand_is_kept_as_it_was_given(state_dir: Path) -> None:
    data = {"to": "Löschung.db", "through": 3, "filters": json.dumps({"from": "2026-01-01"})}
    seq = change(state_dir, "ledger-note", note="archive", data=data)["seq"]
    ((kept,),) = query(state_dir, f"SELECT data FROM notes WHERE seq = {seq}")
    assert json.loads(kept) == data
