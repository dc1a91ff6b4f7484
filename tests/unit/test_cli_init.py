"""`locum init`: what it writes holds, keeps others out, and overwrites nothing."""

import os
import pty
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from appliance.cli import main
from appliance.config import (
    PapercutUpstreamConfig,
    RadiusListenConfig,
    RadiusUpstreamConfig,
    TerminalListenConfig,
    TerminalUpstreamConfig,
    load,
)
from appliance.state_dir import unlock_hash
from proxy.net.codes import is_right

ROOT = Path(__file__).resolve().parents[2]
SECRET = "a secret of more than sixteen"


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115 - it lives as long as the test


def init(folder: Path, *words: str) -> int:
    return main(["init", "--dir", str(folder), *words])


def radius(folder: Path) -> list[str]:
    (folder / "given").write_text(f"{SECRET}\n")
    given = ["--upstream-dialect", "radius", "--address", "10.0.0.5", "--secret-file", str(folder / "given")]
    return [*given, "--networks", "10.7.0.0/24,10.8.0.0/24"]


def papercut(folder: Path) -> list[str]:
    (folder / "given").write_text(f"{SECRET}\n")
    return [
        "--upstream-dialect",
        "papercut",
        "--url",
        "https://print.example.org",
        "--token-file",
        str(folder / "given"),
    ]


def test_a_radius_site_comes_of_a_few_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "etc"
    assert init(place, "--name", 'the "library"', *radius(tmp_path), "--delay", "2m") == 0
    config = load(place / "locum.toml")
    (upstream,), (listen,) = config.upstreams, config.listens
    assert isinstance(upstream, RadiusUpstreamConfig)
    assert isinstance(listen, RadiusListenConfig)
    assert (config.name, config.state_dir, config.offline.delay) == ('the "library"', place / "state", 120.0)
    assert (upstream.name, upstream.addresses, upstream.secret.value) == ("hq", ("10.0.0.5",), SECRET.encode())
    assert [str(client.network) for client in listen.clients] == ["10.7.0.0/24", "10.8.0.0/24"]
    assert len(listen.clients[0].secret.value) >= 24
    said = capsys.readouterr().out
    assert f"Next: locum check -c {place}/locum.toml" in said
    assert SECRET not in said + (place / "locum.toml").read_text()


def test_a_papercut_site_with_both_kinds_of_devices(tmp_path: Path) -> None:
    place = tmp_path / "etc"
    more = ["--listen", "radius", "--listen", "terminal", "--networks", "10.7.0.0/24", "--tls", "self-signed"]
    (tmp_path / "code").write_text("open-sesame\n")
    more += ["--environment", "education", "--unlock-code-file", str(tmp_path / "code"), "--time-zone", "Asia/Tokyo"]
    assert init(place, *papercut(tmp_path), *more) == 0
    config = load(place / "locum.toml")
    upstream, (first, second) = config.upstreams[0], config.listens
    assert isinstance(upstream, PapercutUpstreamConfig)
    assert (upstream.url, upstream.time_zone) == ("https://print.example.org", "Asia/Tokyo")
    assert isinstance(first, RadiusListenConfig)
    assert isinstance(second, TerminalListenConfig)
    assert second.tls is not None
    assert config.offline.environment == "education"
    assert is_right("open-sesame", unlock_hash(config.state_dir))


def test_a_terminal_server_needs_no_secret(tmp_path: Path) -> None:
    given = ["--upstream-dialect", "terminal", "--address", "127.0.0.1", "--upstream-port", "9791"]
    assert init(tmp_path / "etc", *given) == 0
    (upstream,) = load(tmp_path / "etc" / "locum.toml").upstreams
    assert isinstance(upstream, TerminalUpstreamConfig)
    assert (upstream.port, upstream.tls) == (9791, None)


def test_what_must_be_hidden_is_closed(tmp_path: Path) -> None:
    place = tmp_path / "etc"
    init(place, *papercut(tmp_path), "--tls", "self-signed")
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in place.iterdir()}
    closed = {name: modes[name] for name in ("hq.token", "terminal.key", "console.password")}
    assert closed == dict.fromkeys(closed, 0o600)
    assert all(not mode & 0o007 for name, mode in modes.items() if name != "terminal.crt")
    assert modes["terminal.crt"] == 0o644
    assert len((place / "console.password").read_text().strip()) >= 20


def test_nothing_is_overwritten_without_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "etc"
    init(place, *radius(tmp_path))
    (place / "state" / "ledger.db").write_bytes(b"the ledger")
    before = {file: file.read_bytes() for file in place.rglob("*") if file.is_file()}
    assert init(place, *radius(tmp_path), "--name", "other") == 1
    assert "is there already; add --force to write it anew, or name another --dir" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in place.rglob("*") if file.is_file()} == before
    assert init(place, *radius(tmp_path), "--name", "other", "--force") == 0
    assert load(place / "locum.toml").name == "other"
    assert (place / "state" / "ledger.db").read_bytes() == b"the ledger"


@pytest.mark.parametrize(
    ("left_out", "option"),
    [("--upstream-dialect", "--upstream-dialect"), ("--address", "--address"), ("--networks", "--networks"),
     ("--secret-file", "--secret-file")],
)  # fmt: skip
def test_without_a_terminal_a_missing_answer_names_its_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], left_out: str, option: str
) -> None:
    given = radius(tmp_path)
    at = given.index(left_out)
    assert init(tmp_path / "etc", *given[:at], *given[at + 2 :]) == 2
    error = capsys.readouterr().err
    assert f"standard input is no terminal; add {option}" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "etc").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--address", "10.0.0.300"], 'address "10.0.0.300" is neither an IP address nor a host name'),
        (["--networks", "10.7.0.9/24"], "has bits of a host set; write 10.7.0.0/24"),
        (["--delay", "60"], "delay must be a duration from 0s to 7d"),
        (["--listen", "terminal"], "which speaks radius and not terminal; name an upstream of"),
        (["--bind", "localhost"], 'bind "localhost" is not an IP address'),
        (["--upstream-name", "../hq"], "--upstream-name must be a short name"),
        (["--name", "a\nb"], "name must be a text of one line"),
    ],
)  # fmt: skip
def test_a_wrong_answer_is_one_line_and_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    assert init(tmp_path / "etc", *radius(tmp_path), *more) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "etc").exists()


def test_a_secret_may_come_on_standard_input(tmp_path: Path) -> None:
    given = radius(tmp_path)
    given[given.index("--secret-file") + 1] = "-"
    command = [sys.executable, "-m", "appliance", "init", "--dir", str(tmp_path / "etc"), *given]
    done = subprocess.run(command, cwd=ROOT, input=f"{SECRET}\n", capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "etc" / "hq.secret").read_text() == f"{SECRET}\n"


def test_check_finds_no_error_in_what_was_written_but_the_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "etc"
    given = [*papercut(tmp_path), "--tls", "self-signed", "--environment", "education"]
    given[given.index("--url") + 1] = "http://127.0.0.1:9"
    init(place, *given)
    capsys.readouterr()
    main(["check", "-c", str(place / "locum.toml")])
    errors = [line for line in capsys.readouterr().out.splitlines() if line.startswith("error")]
    assert errors
    assert all("upstream hq" in line for line in errors), errors


def test_a_person_is_asked_and_secrets_are_not_shown(tmp_path: Path) -> None:
    place = tmp_path / "etc"
    answers = [b"lab", b"radius", b"10.0.0.5", SECRET.encode(), b"10.7.0.0/24", b"", b"30s"]
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "appliance", "init", "--dir", str(place)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, close_fds=True
    ) as process:
        os.close(theirs)
        shown = bytearray()
        watch = threading.Timer(30, process.kill)
        watch.start()
        try:
            while answers:
                shown += os.read(ours, 4096)
                if shown.rstrip(b" ").endswith(b":"):
                    os.write(ours, answers.pop(0) + b"\n")
                    shown += b" (answered)"
            while True:
                shown += os.read(ours, 4096)
        except OSError:  # the other end is closed
            pass
        assert process.wait() == 0, shown
        watch.cancel()
    os.close(ours)
    assert SECRET.encode() not in shown
    config = load(place / "locum.toml")
    assert (config.name, config.offline.delay, config.offline.environment) == ("lab", 30.0, "commercial")
