"""TLS on both sides of Locum with a private authority: the double's Web Services, the terminals' port, a pinned device.

`dialects/papercut.md`, first paragraph; `dialects/terminal.md`, first paragraph and "Nothing in the dialect
authenticates a device"; `offline-mode.md`, "Unproven".
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.peers.authority import Authority, fingerprint
from tests.peers.floor import Floor
from tests.peers.office import ADA, BO, Office, write_users
from tests.peers.printshop import Printshop
from tests.peers.simulated import SimulatedServer
from tests.peers.terminal import GRANTED, OFFLINE, STORED, UNAVAILABLE, Lost
from tests.peers.waiting import eventually, never_within


def _secured(home: Path, authority: Authority, endings: ExitStack, *more: str) -> SimulatedServer:
    certificate, key = authority.issue("server")
    users = write_users(home / "users.csv")
    files = ("--tls-certificate", str(certificate), "--tls-key", str(key))
    server = SimulatedServer(home / "server", "--users", str(users), *files, *more)
    endings.callback(server.stop)
    return server.start()


def test_https_to_the_server_tls_to_the_terminals_and_a_pinned_certificate(tmp_path: Path) -> None:
    """Online and through an outage; offline a device is let in under its name with its own certificate only."""
    with ExitStack() as endings:
        authority = Authority(tmp_path / "authority")
        server = _secured(tmp_path, authority, endings)
        certificate, key = authority.issue("locum")
        good, other = authority.issue("KM-1"), authority.issue("KM-evil")
        tls = {"certificate_file": str(certificate), "key_file": str(key), "client_ca_file": str(authority.file)}
        shop = Printshop.before_papercut(
            tmp_path / "locum",
            f"https://127.0.0.1:{server.tls_port}/rpc/api/xmlrpc",
            keys={"ca_file": str(authority.file)},
            listen={"tls": tls},
            offline={"delay": "300ms"},
            more=f'[[device]]\nid = "KM-1"\ncertificate_sha256 = "{fingerprint(good[0])}"\n',
        )
        endings.callback(shop.stop)
        floor = Floor()
        endings.callback(floor.close)
        shop.start()
        shop.wait_until_proven()
        office = Office(server, shop, floor)
        one = floor.terminal(shop.port, "KM-1", tls=authority.client(good))
        session = one.log_in(ADA)
        assert one.job(session, pages=3) == STORED
        one.logout(session)
        for context in (None, authority.client(), Authority(tmp_path / "strange").client(good)):
            with pytest.raises(Lost):
                floor.terminal(shop.port, "KM-2", tls=context)
        office.go_offline()
        session = one.log_in(ADA)
        assert one.job(session, pages=4) == STORED
        one.logout(session)
        with pytest.raises(Lost, match="pinned to another certificate"):
            floor.terminal(shop.port, "KM-1", tls=authority.client(other))
        assert one.ping() == OFFLINE, "whoever took the name in vain has not thrown the device off its line"
        floor.terminal(shop.port, "KM-9", tls=authority.client(other)).log_in(BO)
        office.come_back()
        assert [(each.user, each.pages) for each in office.booked()] == [("ada", 3), ("ada", 4)]


def test_a_server_whose_certificate_is_of_another_authority_is_said_and_never_opens(tmp_path: Path) -> None:
    """Unproven: it never leaves GRACE, nobody is let in, jobs are kept; App.Log and status say why."""
    with ExitStack() as endings:
        server = _secured(tmp_path, Authority(tmp_path / "authority"), endings)
        wrong = Authority(tmp_path / "other")
        shop = Printshop.before_papercut(
            tmp_path / "locum",
            f"https://127.0.0.1:{server.tls_port}/rpc/api/xmlrpc",
            keys={"ca_file": str(wrong.file)},
            offline={"delay": "300ms"},
        )
        endings.callback(shop.stop)
        floor = Floor()
        endings.callback(floor.close)
        shop.start()
        office = Office(server, shop, floor)
        shop.wait_for_state("grace")
        level, text = office.wait_for_line("certificate")
        assert level in ("warning", "error"), text
        never_within(lambda: shop.state() in ("offline", "online"), 1.0, "it opens or is believed")
        terminal = office.terminal("KM-1")
        assert terminal.swipe(ADA).status == UNAVAILABLE
        assert terminal.job(1, pages=2) == STORED
        told = shop.status()["upstreams"][0]
        assert told["proven"] is False
        assert "certificate" in str(told["trouble"]) + str(told["cause"])
        assert shop.run_to_its_end("check").returncode == 1
        assert int(shop.outbox()["waiting"]) == 1


def test_a_terminal_server_behind_tls(tmp_path: Path) -> None:
    """The upstream's line and the terminals' line are TLS; relayed, offline and drained by RECORD."""
    with ExitStack() as endings:
        authority = Authority(tmp_path / "authority")
        server = _secured(tmp_path, authority, endings, "--terminal-tls")
        certificate, key = authority.issue("locum")
        shop = Printshop.before_terminal(
            tmp_path / "locum",
            server.terminal_port,
            keys={"tls": {"ca_file": str(authority.file)}},
            listen={"tls": {"certificate_file": str(certificate), "key_file": str(key)}},
            offline={"delay": "300ms"},
        )
        endings.callback(shop.stop)
        floor = Floor()
        endings.callback(floor.close)
        shop.start()
        shop.wait_until_proven()
        office = Office(server, shop, floor)
        terminal = floor.terminal(shop.port, "KM-1", tls=authority.client())
        reply = terminal.swipe(ADA)
        assert (reply.status, reply.user) == (GRANTED, "ada")
        assert terminal.job(reply.session, pages=3) == STORED
        office.go_offline()
        session = terminal.log_in(BO)
        assert terminal.job(session, pages=4) == STORED
        terminal.logout(session)
        office.come_back()
        eventually(lambda: len(office.booked()) == 2, 5, "both are booked")
        assert [(each.user, each.pages, each.via) for each in office.booked()] == [
            ("ada", 3, "terminal"),
            ("bo", 4, "terminal"),
        ]
