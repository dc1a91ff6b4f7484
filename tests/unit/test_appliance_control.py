"""The control socket on the real reactor, in a process of its own: who asked, what is refused, who is cut off."""

from __future__ import annotations

import getpass
import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.client import SOCKET_NAME, ask, control_socket

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
from pathlib import Path
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from appliance import control

control.PATIENCE = 0.5

def refuse(request, who):
    raise control.Refusal("one line that says why")

def later(request, who):
    answer = Deferred()
    reactor.callLater(0.05, answer.callback, "later")
    return answer

def refused_later(request, who):
    answer = Deferred()
    reactor.callLater(0.05, answer.errback, control.Refusal("not stored"))
    return answer

handlers = {
    "who": lambda request, who: who,
    "echo": lambda request, who: request,
    "refuse": refuse,
    "bug": lambda request, who: 1 // 0,
    "later": later,
    "refused-later": refused_later,
}
listening = control.Control(reactor, Path(sys.argv[1]), handlers)
listening.open()
print("ready", flush=True)
reactor.callWhenRunning(lambda: reactor.callLater(30, reactor.stop))
import threading
threading.Thread(target=lambda: (sys.stdin.read(), reactor.callFromThread(listening.close),
                                 reactor.callFromThread(reactor.stop)), daemon=True).start()
reactor.run()
"""


class Server:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        if self.process.stdout.readline() != "ready\n":
            pytest.fail(self.process.communicate()[1])

    def say(self, data: bytes) -> bytes:
        """Everything that comes back to these bytes."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            with control_socket(self.folder) as path:
                connection.connect(path)
            found = b""
            try:
                connection.sendall(data)
                while piece := connection.recv(65536):
                    found += piece
            except (BrokenPipeError, ConnectionResetError):
                pass
            return found

    def stop(self) -> str:
        """End it; what it wrote to standard error."""
        return self.process.communicate("", timeout=10)[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("state"))
    yield made
    made.stop()


def answer(data: bytes) -> dict[str, Any]:
    assert data.endswith(b"\n")
    found: dict[str, Any] = json.loads(data)
    return found


def test_who_asked_is_the_kernels_word_not_the_askers(server: Server) -> None:
    who = answer(server.say(b'{"command": "who", "who": "root (uid 0, pid 1)"}\n'))["result"]
    assert who == f"{getpass.getuser()} (uid {os.getuid()}, pid {os.getpid()})"


def test_the_client_of_the_command_line_is_answered(server: Server) -> None:
    assert ask(server.folder, "echo", number=5)["number"] == 5


def test_a_request_may_come_in_pieces(server: Server) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        with control_socket(server.folder) as path:
            connection.connect(path)
        for piece in (b'{"comm', b'and": "echo', b'"}\n'):
            connection.sendall(piece)
            time.sleep(0.02)  # so that the pieces are read one by one; nothing is waited for
        assert answer(connection.recv(1000))["ok"]


def test_a_refusal_is_one_line(server: Server) -> None:
    for command, words in (("refuse", "one line that says why"), ("refused-later", "not stored")):
        assert answer(server.say(json.dumps({"command": command}).encode() + b"\n")) == {"ok": False, "error": words}


def test_an_answer_may_come_later(server: Server) -> None:
    assert answer(server.say(b'{"command": "later"}\n'))["result"] == "later"


@pytest.mark.parametrize(
    "line",
    [b"", b"nonsense", b"{", b"5", b"null", b"[]", b'"status"', b"{}", b'{"command": "no such"}', b'{"command": 5}',
     b'{"command": []}', b'{"command": {}}', b'{"command": null}', b"\xff\xfe\x00"],
)  # fmt: skip
def test_what_is_no_command_is_answered_with_the_known_ones(server: Server, line: bytes) -> None:
    said = answer(server.say(line + b"\n"))
    assert not said["ok"]
    assert "refused-later" in said["error"]


def test_a_bug_in_one_command_costs_no_other(server: Server) -> None:
    assert "bug" in answer(server.say(b'{"command": "bug"}\n'))["error"]
    assert answer(server.say(b'{"command": "echo"}\n'))["ok"]


def test_a_request_that_is_too_long_is_refused(server: Server) -> None:
    said = server.say(b"x" * ((1 << 20) + 1))
    assert said == b"" or not answer(said)["ok"]
    assert answer(server.say(b'{"command": "echo"}\n'))["ok"]


def test_whoever_is_slow_is_cut_off(server: Server) -> None:
    assert server.say(b'{"command"') == b""


def test_the_socket_is_for_owner_and_group_only(server: Server) -> None:
    mode = (server.folder / SOCKET_NAME).stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o660


def test_deep_json_is_answered_and_leaves_no_traceback(tmp_path: Path) -> None:
    server = Server(tmp_path)
    said = server.say(b"[" * 100_000 + b"\n")
    errors = server.stop()
    assert "Traceback" not in errors
    assert not answer(said)["ok"]


def test_a_dead_ones_socket_is_replaced_and_the_own_one_removed(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead, control_socket(tmp_path) as path:
        dead.bind(path)
    server = Server(tmp_path)
    assert answer(server.say(b'{"command": "echo"}\n'))["ok"]
    server.stop()
    assert not (tmp_path / SOCKET_NAME).exists()


def test_a_state_directory_with_a_long_name_works(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    server = Server(folder)
    assert answer(server.say(b'{"command": "echo"}\n'))["ok"]
    server.stop()
