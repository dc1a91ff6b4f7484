"""A whole line for a test: the simulated server, Locum in front of it, and terminals on a floor.

What happened is read from the server's own book and from the ledger, never from Locum's word alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.peers.floor import Floor, Standing
from tests.peers.printshop import Printshop
from tests.peers.simulated import SimulatedServer
from tests.peers.waiting import eventually

USERS = {
    "ada": ("Ada Berg", "04A1C3F2", "", "12.40", "no"),
    "bo": ("Bo Nowak", "04A1C3F3", "88120045", "8.10", "no"),
    "cy": ("Cy Diaz", "04A1C3F4", "", "25.00", "no"),
    "dee": ("Dee Keller", "04A1C3F5", "", "0.00", "yes"),
}
ADA, BO, BO_SECOND, CY, DEE = "04A1C3F2", "04A1C3F3", "88120045", "04A1C3F4", "04A1C3F5"
STRANGER = "DEADBEEF"
ZONE = "Pacific/Auckland"


@dataclass(frozen=True, slots=True)
class Booked:
    """A job as the server's book has it."""

    user: str
    device: str
    pages: int
    time: str
    comment: str
    record_id: str
    via: str
    document: str
    job_number: str | None


def write_users(file: Path, users: Mapping[str, tuple[str, ...]] = USERS) -> Path:
    """A users' file of the simulated server."""
    lines = ["username,full_name,card,secondary_card,balance,restricted"]
    lines += [",".join((name, *rest)) for name, rest in users.items()]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")
    return file


class Office:
    """The server and Locum, both running; `shop` is started and proven by `open`."""

    def __init__(self, server: SimulatedServer, shop: Printshop, floor: Floor) -> None:
        self.server, self.shop, self.floor = server, shop, floor

    @property
    def users(self) -> Path:
        return self.server.home / "users.csv"

    def terminal(self, device: str) -> Standing:
        """A terminal in front of Locum."""
        return self.floor.terminal(self.shop.port, device)

    def go_offline(self) -> None:
        """kill -9 of the server, until offline mode."""
        self.server.kill()
        self.shop.wait_for_state("offline")

    def come_back(self, within: float = 20.0) -> None:
        """The server again, until nothing waits."""
        self.server.start()
        self.shop.wait_until_drained(within)

    def booked(self, *devices: str) -> list[Booked]:
        """The jobs in the server's book, of these devices or all, in the order in which they came."""
        rows = self.server.query(
            "SELECT user, device, pages, time, comment, record_id, via, document, job_number FROM jobs ORDER BY number"
        )
        return [each for each in (Booked(*row) for row in rows) if not devices or each.device in devices]

    def locum(self, *arguments: str, stdin: str | None = None) -> str:
        """`locum ARGUMENTS`; it must end with 0. Gives what it printed."""
        done = self.shop.run_to_its_end(*arguments, stdin=stdin)
        assert done.returncode == 0, f"locum {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def locum_json(self, *arguments: str) -> Any:
        """`locum ARGUMENTS --json`, read."""
        return json.loads(self.locum(*arguments, "--json"))

    def app_log(self) -> list[tuple[str, str]]:
        """Level and text of every line of App.Log."""
        return [(row["level"], row["text"]) for row in self.shop.query("SELECT level, text FROM app_log ORDER BY seq")]

    def wait_for_line(self, words: str, within: float = 10.0) -> tuple[str, str]:
        """Wait until App.Log has a line with these words; gives its level and text."""

        def found() -> tuple[str, str] | None:
            return next((each for each in self.app_log() if words in each[1]), None)

        line = eventually(found, within, f"a line of App.Log with {words!r}", every=0.05)
        assert line is not None
        return line

    def wait_for_outbox(self, state: str, count: int, within: float = 10.0) -> None:
        """Wait until so many records are in this state."""
        eventually(lambda: int(self.shop.outbox()[state]) == count, within, f"{count} records are {state}")


def open_office(
    home: Path,
    endings: ExitStack,
    *,
    speaking: str = "papercut",
    server_arguments: tuple[str, ...] = (),
    users: Mapping[str, tuple[str, ...]] = USERS,
    **how: Any,
) -> Office:
    """Start a server and Locum in front of it; `endings` ends them. `speaking`: papercut or terminal."""
    file = write_users(home / "server" / "users.csv", users)
    server = SimulatedServer(home / "server", "--users", str(file), *server_arguments)
    endings.callback(server.stop)
    server.start()
    how["offline"] = {"delay": "300ms", **how.get("offline", {})}
    if speaking == "papercut":
        keys = {"time_zone": ZONE, **how.pop("keys", {})}
        shop = Printshop.before_papercut(home / "locum", server.url, keys=keys, **how)
    else:
        shop = Printshop.before_terminal(home / "locum", server.terminal_port, **how)
    endings.callback(shop.stop)
    floor = Floor()
    endings.callback(floor.close)
    shop.start()
    shop.wait_until_proven()
    return Office(server, shop, floor)
