"""The state directory and the installation's key: made so that others cannot look, refused where they can."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from appliance.state_dir import KEY_NAME, KEY_SIZE, StateDirError, installation_key, prepare


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
