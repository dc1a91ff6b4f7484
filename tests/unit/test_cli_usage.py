"""Every command has help with an example, and every mistake is one line and the right exit status."""

import subprocess
import sys
from pathlib import Path

import click
import pytest

from appliance import __version__
from appliance.cli import main
from appliance.cli.main import COMMANDS, LazyGroup, locum
from tests.unit.configs import SMALL, write

ROOT = Path(__file__).resolve().parents[2]


def every_command() -> list[list[str]]:
    found: list[list[str]] = []

    def walk(command: click.Command, path: list[str]) -> None:
        found.append(path)
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                walk(inner, [*path, name])

    walk(locum, [])
    return found


NEED_PLACE = {"outbox", "unlock", "lock", "drill"}


def locum_process(*arguments: str, **how: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "appliance", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=30
    )


@pytest.mark.parametrize("path", every_command(), ids=" ".join)
def test_every_command_has_help_with_an_example(path: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*path, "--help"]) == 0
    said = capsys.readouterr().out
    assert f"Example: {' '.join(['locum', *path[:1]])}" in " ".join(said.split())


def test_the_commands_of_the_interface_are_there() -> None:
    known = LazyGroup.list_commands(locum, click.Context(locum))  # type: ignore[arg-type]
    assert set(known) >= {
        "init", "run", "check", "status", "devices", "log", "unlock", "lock", "unlock-code", "drill", "outbox", "demo"
    }  # fmt: skip
    assert set(known) <= set(COMMANDS)
    assert {tuple(path[1:]) for path in every_command() if path[:1] == ["outbox"]} == {
        (),
        ("list",),
        ("show",),
        ("retry",),
        ("resolve",),
        ("drop",),
        ("claim",),
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ["stats"],
        ["status", "--jsn"],
        ["outbox", "lst"],
        ["outbox", "drop", "0123456789"],
        ["outbox", "retry"],
        ["outbox", "retry", "--all", "0123456789"],
        ["outbox", "retry", "short"],
        ["outbox", "list", "--limit", "0"],
        ["outbox", "retry", "--all", "--set", "printer=x"],
        ["outbox", "retry", "0123456789", "--set", "pages=3"],
        ["outbox", "retry", "0123456789", "--set", "printer="],
        ["outbox", "resolve", "0123456789"],
        ["unlock", "--once"],
        ["unlock", "KM-1", "--all", "--once"],
        ["unlock", "KM-1"],
        ["lock"],
        ["drill", "start", "KM-1"],
        ["drill", "start", "KM-1", "--reason", " "],
        ["drill", "start", "KM-1", "--all", "--reason", "x"],
        ["drill", "start", "--for", "5h", "--reason", "x"],
        ["drill", "start", "--for", "30", "--reason", "x"],
        ["drill", "stop", "KM-1", "--all"],
        ["log", "-n", "many"],
        ["run", "-c", "/nowhere/locum.toml"],
        ["status", "-c", "/nowhere/locum.toml"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line_and_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with_place = ["--state-dir", str(tmp_path)] if arguments[0] in NEED_PLACE and "lst" not in arguments else []
    assert main([*arguments, *with_place]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.err


def test_a_wrong_command_names_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    main(["status", "--jsn"])
    assert "see: locum status --help" in capsys.readouterr().err


def test_a_mistake_in_the_config_is_status_2_and_a_line_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, SMALL + "[offline]\ndelay = 1\nqq = 2\n")
    for command in ("run", "check"):
        assert main([command, "-c", str(file)]) == 2
        said = capsys.readouterr().err.splitlines()
        assert [line.split(": ")[0] for line in said] == [f"{file}:17", f"{file}:18"]


@pytest.mark.parametrize("deed", ["plan", "up", "status"])
def test_in_line_without_its_section_is_status_2(deed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write(tmp_path, SMALL)
    assert main(["inline", deed, "-c", str(config)]) == 2
    assert capsys.readouterr().err == f"locum: {config} has no section [inline]; see docs/inline.md\n"


def test_no_command_shows_the_help_and_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Usage: locum" in capsys.readouterr().out


def test_the_version_is_told() -> None:
    told = locum_process("--version")
    assert (told.returncode, told.stdout) == (0, f"Locum {__version__}\n")


def test_a_reader_that_has_had_enough_is_no_failure() -> None:
    # `true` reads nothing, so what the help says goes nowhere; the shell gives the status of the first of the two.
    script = f"set -o pipefail; {sys.executable} -c 'import time, sys; from appliance.cli import main; " + (
        'sys.stdin.read(); sys.exit(main(["--help"]))\' < <(sleep 0.3) | true'
    )
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_error_that_should_not_happen_is_one_line_without_debug(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(COMMANDS, "status", "tests.unit.test_cli_usage:broken")
    assert main(["status"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "ZeroDivisionError in test_cli_usage.py" in said
    assert main(["--debug", "status"]) == 1
    assert "Traceback" in capsys.readouterr().err


@click.command()
def broken() -> None:
    """A command with a bug."""
    _ = 1 / 0


def test_asking_for_help_is_quick() -> None:
    """A command line that is used by scripts does not load the service."""
    program = "import sys; from appliance.cli import main; main(['status', '--help']); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert not {"twisted", "scapy", "sqlite_utils", "construct"} & set(loaded.split())
