"""FreeRADIUS's own client as the copier: requests are given as text, answers come back as text.

One request or a file of many with `-p` in parallel. `-x` makes radclient print what it got; its print is parsed here.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.peers.freeradius import dictionary_text
from tests.peers.skips import need_radclient


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as radclient printed it: the packet's name and its attributes, as text without quotes."""

    code: str
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of radclient printed."""

    replies: list[Reply]
    output: str

    @property
    def codes(self) -> list[str]:
        """The names of the answers, in the order in which they came."""
        return [reply.code for reply in self.replies]


def _parse(output: str) -> list[Reply]:
    replies: list[Reply] = []
    inside = False
    for line in output.splitlines():
        if line.startswith("Received "):
            replies.append(Reply(line.split()[1], {}))
            inside = True
        elif inside and line.startswith("\t"):
            name, _, value = line.strip().partition(" = ")
            attributes = replies[-1].attributes
            assert isinstance(attributes, dict)
            attributes[name] = value.strip('"')
        else:
            inside = False
    return replies


def radclient(
    home: Path,
    address: str,
    port: int,
    command: str,
    secret: str,
    requests: Sequence[Mapping[str, str]],
    *,
    tries: int = 1,
    timeout: float = 2.0,
    parallel: int = 1,
) -> Run:
    """Send `requests` (attribute name to value, as radclient writes them) and return what came back.

    `command` is `auth`, `acct` or `status`; `tries` counts sendings in all, `timeout` seconds apart. A request that
    got no answer has no reply in the list.
    """
    home.mkdir(parents=True, exist_ok=True)
    (home / "dictionary").write_text(dictionary_text())
    text = "\n\n".join("\n".join(f"{name} = {value}" for name, value in each.items()) for each in requests)
    file = home / "requests"
    file.write_text(text + "\n")
    host = f"[{address}]" if ":" in address else address
    family = "-6" if ":" in address else "-4"
    done = subprocess.run(
        [
            need_radclient(),
            "-x",
            family,
            "-d",
            str(home),
            "-r",
            str(tries),
            "-t",
            str(timeout),
            "-p",
            str(parallel),
            "-f",
            str(file),
            f"{host}:{port}",
            command,
            secret,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60 + tries * timeout * len(requests),
    )
    return Run(_parse(done.stdout), done.stdout + done.stderr)
