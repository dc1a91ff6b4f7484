"""In line, terminals and a PaperCut server: every connection that the server sees is a copier's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TypeVar

import pytest

from tests.peers.appliance import table
from tests.peers.netns import COPIER, COPIER6, SERVER, SERVER6, Wire, wire
from tests.peers.office import ADA, write_users
from tests.peers.printshop import Printshop
from tests.peers.simulated import SimulatedServer
from tests.peers.skips import need_program
from tests.peers.terminal import GRANTED, STORED, LoginReply, Lost, Terminal
from tests.peers.waiting import eventually

PORT = 9790
T = TypeVar("T")


class Shop:
    """The simulated server behind, Locum in line before it, and one terminal."""

    def __init__(self, line: Wire, home: Path, endings: ExitStack, server_at: str) -> None:
        self.line, self.home = line, home
        self.server_at = server_at
        write_users(home / "users.csv")
        self.server = SimulatedServer(home / "server", "--users", str(home / "users.csv"), bind=server_at)
        self.server.terminal_port = PORT
        self._endings = endings
        with line.inside(line.server):
            endings.callback(self.server.stop)
            self.server.start()

    def stand_in_line(self, shop: Printshop) -> None:
        with self.line.inside(self.line.appliance):
            done = shop.run_to_its_end("inline", "up")
            assert done.returncode == 0, done.stdout + done.stderr
            self._endings.callback(shop.kill)
            shop.start()
            eventually(lambda: "diverts" in shop.run_to_its_end("inline", "status").stdout, 5, "the kernel diverts")

    def listening(self) -> dict[str, object]:
        return {"bind": "::" if ":" in self.server_at else "0.0.0.0", "port": PORT}

    def peers(self, port: int) -> set[tuple[str, int]]:
        """Who is connected to a port of the server."""
        told = self.line.run(self.line.server, ["ss", "-Htn", "state", "established", f"sport = :{port}"]).stdout
        found = (row.split()[3].rpartition(":") for row in told.splitlines())
        return {(address.strip("[]"), int(number)) for address, _, number in found}

    def at_the_copier(self, do: Callable[[Terminal], T]) -> T:
        with self.line.inside(self.line.copier):
            return do(Terminal(PORT, "mfp-1", address=self.server_at))


INLINE = table("[inline]", {"mode": "bridge", "copier_side": "p0", "server_side": "p1"})


@pytest.fixture
def open_shop(tmp_path: Path) -> Iterator[Callable[[str], Shop]]:
    need_program("nft", "nftables")
    need_program("ss", "iproute2")
    with wire() as line, ExitStack() as endings:
        yield lambda server_at: Shop(line, tmp_path, endings, server_at)


async def granted(terminal: Terminal) -> LoginReply:
    """A login that is granted, on a connection that stays; the switch may need a moment to learn who is where."""
    for _ in range(20):
        with suppress(Lost):
            if not terminal.is_open:
                await terminal.connect(2)
            reply = await terminal.swipe(ADA, 2)
            if reply.status == GRANTED:
                return reply
        await asyncio.sleep(0.1)
    raise AssertionError("nobody granted it")


@pytest.mark.parametrize(("copier", "server"), [(COPIER, SERVER), (COPIER6, SERVER6)], ids=["IPv4", "IPv6"])
def test_a_terminals_line_has_its_own_address_and_port_at_the_server(
    open_shop: Callable[[str], Shop], copier: str, server: str
) -> None:
    shop = open_shop(server)
    locum = Printshop.before_terminal(
        shop.home / "locum", PORT, keys={"address": server}, listen=shop.listening(), more=INLINE
    )
    shop.stand_in_line(locum)

    def at_work(terminal: Terminal) -> None:
        async def work() -> None:
            reply = await granted(terminal)
            assert await terminal.job(reply.session, 1, pages=3) == STORED
            assert terminal._writer is not None
            own = terminal._writer.get_extra_info("sockname")[:2]
            peers = shop.peers(PORT)
            assert own in peers, "the device's line"
            assert {address for address, _ in peers} == {copier}
            await terminal.close()

        asyncio.run(work())

    shop.at_the_copier(at_work)
    assert locum.query("SELECT decided_by FROM logins")[0]["decided_by"] == "server"
    assert shop.server.query("SELECT count(*) FROM jobs") == [(1,)]


def test_calls_to_a_papercut_server_come_from_the_copiers_address(open_shop: Callable[[str], Shop]) -> None:
    shop = open_shop(SERVER)
    locum = Printshop.before_papercut(shop.home / "locum", shop.server.url, listen=shop.listening(), more=INLINE)
    shop.stand_in_line(locum)
    shop.at_the_copier(lambda terminal: asyncio.run(granted(terminal)))
    assert {address for address, _ in shop.peers(shop.server.xmlrpc_port)} == {COPIER}
