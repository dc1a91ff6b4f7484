"""Asks the running appliance over its control socket: one object of JSON and a line break each way.

`{"command": "status"}` is answered by `{"ok": true, "result": ...}` or `{"ok": false, "error": "one line"}`, and the
connection is closed. The socket lies in the state directory and is for root and the group locum.
"""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SOCKET_NAME = "control.sock"
TIMEOUT = 30.0
"""Seconds for a whole answer."""

_LONGEST_PATH = 100
_LARGEST_ANSWER = 256 << 20


class ClientError(Exception):
    """The appliance cannot be asked, or said no. The text is one line: what, where, what to do."""


class NotRunning(ClientError):
    """Nobody listens on the control socket."""


@contextmanager
def control_socket(state_dir: Path) -> Iterator[str]:
    """A path by which the control socket in `state_dir` can be bound or connected to.

    The kernel takes 107 octets (unix(7)); a directory with a longer name is reached through a descriptor of it.
    """
    path = str(state_dir / SOCKET_NAME)
    if len(path.encode()) <= _LONGEST_PATH:
        yield path
        return
    descriptor = os.open(state_dir, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET_NAME}"
    finally:
        os.close(descriptor)


def is_running(state_dir: Path) -> bool:
    """Whether somebody listens on the control socket in `state_dir`."""
    try:
        with control_socket(state_dir) as path, socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT)
            connection.connect(path)
    except OSError:
        return False
    return True


def ask(state_dir: Path, command: str, **arguments: Any) -> Any:
    """The appliance's result for a command. Raises ClientError, NotRunning among them."""
    try:
        answer = _exchange(state_dir, {"command": command, **arguments})
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        raise NotRunning(
            f"no Locum runs on {state_dir}; start it with: locum run, or name another with -c FILE or --state-dir DIR"
        ) from None
    except PermissionError:
        raise ClientError(
            f"this user may not talk to the Locum on {state_dir}; run as root or as a member of the group locum"
        ) from None
    except TimeoutError:
        raise ClientError(
            f"the Locum on {state_dir} gave no answer in {TIMEOUT:.0f} s; look into its log or restart it"
        ) from None
    except (OSError, ValueError) as error:
        raise ClientError(f"the Locum on {state_dir} broke off ({error}); look into its log and ask again") from None
    if not answer.get("ok"):
        raise ClientError(" ".join(str(answer.get("error") or "the appliance refused and gave no reason").split()))
    return answer.get("result")


def _exchange(state_dir: Path, request: dict[str, Any]) -> dict[str, Any]:
    with control_socket(state_dir) as path, socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(TIMEOUT)
        connection.connect(path)
        connection.sendall(json.dumps(request).encode() + b"\n")
        received = bytearray()
        while not received.endswith(b"\n") and (part := connection.recv(1 << 16)):
            received += part
            if len(received) > _LARGEST_ANSWER:
                raise ValueError("the answer is too large")
    if not received:
        raise ConnectionResetError("it closed without an answer")
    answer = json.loads(received)
    if not isinstance(answer, dict):
        raise ValueError("the answer is not an object")
    return answer
