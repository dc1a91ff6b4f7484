"""Checkpoints on their way off the box, on a clock that the test sets: told once each, written whatever happens."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import pytest

from appliance.alerts import LONGEST, message
from appliance.witness import HEAD_NAME, MOST_MISSING, NAME, RETRY_AFTER, Witness, newest
from proxy.commands import Command, Keep, Tell
from proxy.events import Moment
from storage.checkpoints import Checkpoint, lines_in, make
from storage.records import Sign
from storage.signing import Signer
from storage.witness import Mark, mark_of

WALL = 1_795_000_000_000
QUARTER = 15 * 60
SIGNER = Signer.new()


def moment(seconds: float) -> Moment:
    return Moment(1000.0 + seconds, WALL + int(seconds * 1000), bytes(32))


def checkpoints(count: int, signer: Signer = SIGNER) -> list[Checkpoint]:
    made: list[Checkpoint] = []
    for number in range(1, count + 1):
        made.append(make(signer, number * 1000, bytes(31) + b"h", WALL + number, made[-1] if made else None))
    return made


def told(commands: Sequence[Command]) -> list[str]:
    """The checkpoints that leave the box."""
    return [each.text for each in commands if isinstance(each, Tell) and each.alarm == "checkpoint"]


def asked(commands: Sequence[Command]) -> list[Command]:
    return [each for each in commands if isinstance(each, Keep) and isinstance(each.change, Sign)]


def written(folder: Path) -> list[str]:
    return (folder / NAME).read_text().splitlines()


@pytest.fixture
def made() -> deque[Checkpoint]:
    return deque()


@pytest.fixture
def witness(tmp_path: Path, made: deque[Checkpoint]) -> Witness:
    return Witness(tmp_path, made, lambda: (0, bytes(32)), moment(0))


def test_a_new_checkpoint_is_told_and_written_once(witness: Witness, made: deque[Checkpoint], tmp_path: Path) -> None:
    first, second = checkpoints(2)
    made.append(first)
    assert told(witness.look(moment(1))) == [first.line]
    assert witness.look(moment(2)) == []
    made.append(second)
    assert told(witness.look(moment(3))) == [second.line]
    assert written(tmp_path) == [first.line, second.line]
    assert newest(tmp_path) == mark_of(second, NAME)


def test_what_is_told_is_no_line_of_app_log_which_would_be_an_entry_to_sign(
    witness: Witness, made: deque[Checkpoint]
) -> None:
    made.extend(checkpoints(1))
    (line,) = witness.look(moment(1))
    assert isinstance(line, Tell)
    assert (line.level, line.keep, line.context) == ("info", False, {})


def test_the_longest_message_holds_a_whole_checkpoint_that_verifies() -> None:
    last = make(SIGNER, (1 << 53) - 1, b"\xff" * 32, 253_370_764_800_000, checkpoints(1)[0])
    line = message(
        Tell("info", last.line, keep=False, alarm="checkpoint"), "ü" * 255, "h" * 255, 4_194_304, WALL / 1000
    )
    assert len(line) <= LONGEST
    (found,) = lines_in(line.decode())
    assert found.line == last.line
    assert found.signed()


def test_a_checkpoint_is_asked_for_every_quarter_of_an_hour(witness: Witness) -> None:
    assert asked(witness.look(moment(QUARTER - 0.1))) == []
    (keep,) = asked(witness.look(moment(QUARTER)))
    assert keep == Keep(Sign(WALL + QUARTER * 1000), wait=False)
    assert asked(witness.look(moment(QUARTER + 1))) == []
    assert len(asked(witness.look(moment(2 * QUARTER)))) == 1


def test_the_quarter_of_an_hour_begins_anew_with_each_checkpoint(witness: Witness, made: deque[Checkpoint]) -> None:
    made.extend(checkpoints(1))
    witness.look(moment(QUARTER - 1))
    assert asked(witness.look(moment(2 * QUARTER - 2))) == []
    assert len(asked(witness.look(moment(2 * QUARTER - 1)))) == 1


def test_a_step_of_the_wall_clock_asks_for_nothing(witness: Witness) -> None:
    assert witness.look(Moment(1001.0, WALL + 86_400_000, bytes(32))) == []
    (keep,) = asked(witness.look(Moment(1000.0 + QUARTER, WALL - 86_400_000, bytes(32))))
    assert isinstance(keep, Keep)
    assert keep.change == Sign(WALL - 86_400_000)


def test_a_failure_to_write_is_said_once_and_made_good(
    witness: Witness, made: deque[Checkpoint], tmp_path: Path
) -> None:
    (tmp_path / NAME).mkdir()
    known = checkpoints(3)
    made.append(known[0])
    said = [each for each in witness.look(moment(1)) if isinstance(each, Tell) and not each.alarm]
    assert [each.level for each in said] == ["error"]
    assert "\n" not in said[0].text
    made.append(known[1])
    assert told(witness.look(moment(1 + RETRY_AFTER))) == [known[1].line], "syslog hears of it all the same"
    assert witness.look(moment(2 + RETRY_AFTER)) == []
    (tmp_path / NAME).rmdir()
    (well,) = witness.look(moment(2 + 2 * RETRY_AFTER))
    assert isinstance(well, Tell)
    assert (well.level, well.alarm) == ("info", "")
    assert written(tmp_path) == [known[0].line, known[1].line]


def test_a_start_writes_what_is_missing_and_tells_the_newest(witness: Witness, tmp_path: Path) -> None:
    known = checkpoints(5)
    (tmp_path / NAME).write_text("".join(f"{each.line}\n" for each in known[:2]))
    assert told(witness.catch_up(known, moment(0))) == [known[4].line]
    assert written(tmp_path) == [each.line for each in known]


def test_a_start_that_lacks_nothing_says_and_writes_nothing(witness: Witness, tmp_path: Path) -> None:
    known = checkpoints(3)
    (tmp_path / NAME).write_text("".join(f"{each.line}\n" for each in known))
    before = (tmp_path / NAME).stat()
    assert witness.catch_up(known, moment(0)) == []
    assert witness.catch_up([], moment(0)) == []
    assert (tmp_path / NAME).stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("kept", [1, 100, -1])
def test_a_line_that_was_cut_off_is_written_whole_on_a_line_of_its_own(
    witness: Witness, tmp_path: Path, kept: int
) -> None:
    known = checkpoints(2)
    (tmp_path / NAME).write_text(known[0].line + "\n" + known[1].line[:kept])
    witness.catch_up(known, moment(0))
    assert written(tmp_path)[0] == known[0].line
    assert written(tmp_path)[-1] == known[1].line
    assert [each.seq for each in lines_in((tmp_path / NAME).read_text())] == [1000, 2000]


def test_an_older_copy_of_the_ledger_changes_nothing_of_what_the_box_knows(witness: Witness, tmp_path: Path) -> None:
    known = checkpoints(5)
    (tmp_path / NAME).write_text("".join(f"{each.line}\n" for each in known))
    assert witness.catch_up(known[:3], moment(0)) == []
    kept = newest(tmp_path)
    assert kept is not None
    assert kept.seq == known[4].seq


def test_the_newest_thousand_are_found_in_the_end_of_a_long_file(witness: Witness, tmp_path: Path) -> None:
    known = checkpoints(MOST_MISSING + 1)
    file = tmp_path / NAME
    file.write_text("x" * (1 << 21) + "\n" + "".join(f"{each.line}\n" for each in known[:-1]))
    size = file.stat().st_size
    witness.catch_up(known[1:], moment(0))
    assert file.stat().st_size == size + len(known[-1].line) + 1


def test_a_file_of_bytes_that_are_no_text_is_no_witness_and_no_failure(witness: Witness, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(os.urandom(4096))
    assert newest(tmp_path) is None
    known = checkpoints(1)
    witness.catch_up(known, moment(0))
    assert newest(tmp_path) is not None


def test_the_file_is_for_owner_and_group_only(witness: Witness, made: deque[Checkpoint], tmp_path: Path) -> None:
    made.extend(checkpoints(1))
    witness.look(moment(1))
    assert (tmp_path / NAME).stat().st_mode & 0o027 == 0


def test_between_checkpoints_the_head_says_how_far_the_ledger_has_come(tmp_path: Path) -> None:
    heads = [(7, b"a" * 32)]
    witness = Witness(tmp_path, deque(checkpoints(0)), lambda: heads[-1], moment(0))
    assert witness.look(moment(1)) == []
    assert newest(tmp_path) == Mark(7, b"a" * 32, HEAD_NAME)
    heads.append((1234, b"b" * 32))
    witness.look(moment(2))
    assert newest(tmp_path) == Mark(1234, b"b" * 32, HEAD_NAME)
    heads.append((9, b"c" * 32))
    witness.look(moment(3))
    assert (tmp_path / HEAD_NAME).read_text() == f"9:{'63' * 32}\n", "a shorter one leaves nothing of the longer"
    assert (tmp_path / HEAD_NAME).stat().st_mode & 0o027 == 0


def test_a_head_that_cannot_be_written_is_said_once_and_written_later(tmp_path: Path) -> None:
    (tmp_path / HEAD_NAME).mkdir()
    heads = [(7, b"a" * 32)]
    witness = Witness(tmp_path, deque(), lambda: heads[-1], moment(0))
    (line,) = witness.look(moment(1))
    assert isinstance(line, Tell)
    assert HEAD_NAME in line.text
    assert witness.look(moment(1 + RETRY_AFTER)) == []
    (tmp_path / HEAD_NAME).rmdir()
    (line,) = witness.look(moment(2 + 2 * RETRY_AFTER))
    assert isinstance(line, Tell)
    assert "is written again" in line.text
    assert newest(tmp_path) == Mark(7, b"a" * 32, HEAD_NAME)
