"""The appliance's end of the control socket, with answers that the test gives."""

import json
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from appliance.client import control_socket


class ControlPeer:
    """Listens on the control socket of a directory; `asked` is what came, `answers` what is said to each command.

    An answer may be a result, an exception (its text is the refusal), or bytes that go out as they are.
    """

    def __init__(self, state_dir: Path, **answers: Any) -> None:
        self.answers = {name.replace("_", "-"): answer for name, answer in answers.items()}
        self.asked: list[dict[str, Any]] = []
        self._socket = socket.socket(socket.AF_UNIX)
        with control_socket(state_dir) as path:
            self._socket.bind(path)
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "ControlPeer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        self._thread.join(5)

    def close(self) -> None:
        """Listen no more."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                line = connection.makefile().readline()
                if line:
                    request = json.loads(line)
                    self.asked.append(request)
                    connection.sendall(self._answer(request))

    def _answer(self, request: dict[str, Any]) -> bytes:
        answer = self.answers.get(request["command"])
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, bytes):
            return answer
        if isinstance(answer, Exception):
            return json.dumps({"ok": False, "error": str(answer)}).encode() + b"\n"
        return json.dumps({"ok": True, "result": answer}).encode() + b"\n"
