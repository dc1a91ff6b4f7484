"""The state directory and the keys in it: made so that others cannot look, refused where they can."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from appliance.state_dir import (
    KEY_NAME,
    KEY_SIZE,
    PUBLIC_KEY_NAME,
    SIGNING_KEY_NAME,
    StateDirError,
    installation_key,
    prepare,
    public_key,
    signing_key,
    signing_key_there,
)
from storage.signing import holds


def test_a_missing_directory_is_made_closed_to_others(tmp_path: Path) -> None:
    prepare(tmp_path / "a" / "state")
    assert stat.S_IMODE((tmp_path / "a" / "state").stat().st_mode) & 0o007 == 0


@pytest.mark.parametrize("mode", [0o751, 0o754, 0o752, 0o777])
def test_a_directory_that_others_may_look_into_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(StateDirError, match="chmod o-rwx") as raised:
        prepare(folder)
    assert "\n" not in str(raised.value)


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("x")
    with pytest.raises(StateDirError, match="cannot be used"):
        prepare(tmp_path / "state")


def test_the_key_is_made_once_and_closed_to_all_but_the_service(tmp_path: Path) -> None:
    key = installation_key(tmp_path)
    assert len(key) == KEY_SIZE
    assert installation_key(tmp_path) == key
    assert stat.S_IMODE((tmp_path / KEY_NAME).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [KEY_NAME]


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    installation_key(tmp_path)
    (tmp_path / KEY_NAME).chmod(0o640)
    with pytest.raises(StateDirError, match="chmod 600"):
        installation_key(tmp_path)


def test_a_damaged_key_is_refused(tmp_path: Path) -> None:
    installation_key(tmp_path)
    (tmp_path / KEY_NAME).write_bytes(b"short")
    with pytest.raises(StateDirError, match="damaged"):
        installation_key(tmp_path)


def test_a_start_that_was_interrupted_while_making_the_key_makes_another(tmp_path: Path) -> None:
    half = (tmp_path / KEY_NAME).with_suffix(".new")
    half.touch(0o600)
    half.write_bytes(b"half a ke")
    assert len(installation_key(tmp_path)) == KEY_SIZE


def test_the_signing_key_is_made_once_closed_to_all_but_the_service_its_public_half_open(tmp_path: Path) -> None:
    assert signing_key_there(tmp_path) is None
    signer = signing_key(tmp_path)
    again = signing_key(tmp_path)
    assert again.public_key == signer.public_key
    assert stat.S_IMODE((tmp_path / SIGNING_KEY_NAME).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / PUBLIC_KEY_NAME).stat().st_mode) == 0o644
    assert {path.name for path in tmp_path.iterdir()} == {SIGNING_KEY_NAME, PUBLIC_KEY_NAME}
    assert holds(public_key(tmp_path), again.sign(b"said"), b"said")


def test_openssl_reads_both_halves_of_the_signing_key(tmp_path: Path) -> None:
    signing_key(tmp_path)
    ours = subprocess.run(
        ["openssl", "pkey", "-in", tmp_path / SIGNING_KEY_NAME, "-pubout"], check=True, capture_output=True
    ).stdout
    assert ours == (tmp_path / PUBLIC_KEY_NAME).read_bytes()


def test_a_public_half_that_is_missing_or_of_another_key_is_written_anew(tmp_path: Path) -> None:
    signer = signing_key(tmp_path)
    (tmp_path / PUBLIC_KEY_NAME).unlink()
    signing_key(tmp_path)
    assert public_key(tmp_path) == signer.public_key
    (tmp_path / "other").mkdir()
    signing_key(tmp_path / "other")
    (tmp_path / "other" / PUBLIC_KEY_NAME).rename(tmp_path / PUBLIC_KEY_NAME)
    signing_key(tmp_path)
    assert public_key(tmp_path) == signer.public_key


def test_a_signing_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    signing_key(tmp_path)
    (tmp_path / SIGNING_KEY_NAME).chmod(0o640)
    with pytest.raises(StateDirError, match="chmod 600"):
        signing_key(tmp_path)


@pytest.mark.parametrize("damage", ["", "short", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_damaged_signing_key_is_refused_in_one_line_and_left_as_it_is(tmp_path: Path, damage: str) -> None:
    signing_key(tmp_path)
    file = tmp_path / SIGNING_KEY_NAME
    file.write_text(damage)
    with pytest.raises(StateDirError, match="damaged") as raised:
        signing_key(tmp_path)
    assert "\n" not in str(raised.value)
    assert file.read_text() == damage


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b"-----BEGIN PUBLIC KEY-----\nAAAA\n"])
def test_a_public_key_that_is_missing_or_none_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / PUBLIC_KEY_NAME).write_bytes(content)
    with pytest.raises(StateDirError, match="start Locum") as raised:
        public_key(tmp_path)
    assert "\n" not in str(raised.value)
