"""Locum in front of one RADIUS server, as a test runs it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tests.peers.appliance import Appliance, table, toml
from tests.peers.ports import LOOPBACK, free_port

__all__ = ["COPIER_SECRET", "QUICK_OFFLINE", "QUICK_UPSTREAM", "Locum", "Server", "table", "toml", "wall_clock"]

COPIER_SECRET = b"copier-secret"
QUICK_OFFLINE: Mapping[str, object] = {"delay": "1s"}
QUICK_UPSTREAM: Mapping[str, object] = {"answer_timeout": "500ms", "probe_interval": "500ms"}


class Server(Protocol):
    """What Locum must know of a server: two ports and a secret."""

    auth_port: int
    acct_port: int
    secret: bytes


class Locum(Appliance):
    """One appliance in `home`, in front of one server. Ports stay the same over restarts.

    `upstream`, `offline`, `client` and `listen` override single keys of the config; a value None leaves a key out.
    `more` is TOML to append. `state_dir` may lie elsewhere (a small disk).
    """

    def __init__(
        self,
        home: Path,
        auth_port: int,
        acct_port: int,
        secret: bytes,
        *,
        address: str | Sequence[str] = LOOPBACK[4],
        binds: Iterable[str] = (LOOPBACK[4],),
        upstream: Mapping[str, object] = QUICK_UPSTREAM,
        offline: Mapping[str, object] = QUICK_OFFLINE,
        client: Mapping[str, object] | None = None,
        more: str = "",
        state_dir: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(home, state_dir=state_dir, environment=environment)
        self.auth_port, self.acct_port = free_port(), free_port()
        self.secret = COPIER_SECRET
        self.upstream = {
            "name": "hq",
            "dialect": "radius",
            "address": address,
            "auth_port": auth_port,
            "accounting_port": acct_port,
            "secret_file": str(home / "hq.secret"),
            **upstream,
        }
        self.offline = dict(offline)
        self.binds = list(binds)
        self.client = dict(client or {})
        self.more = more
        self.write_secret("hq.secret", secret)
        self.write_secret("copiers.secret", self.secret)
        self.write_config()

    @classmethod
    def before(cls, home: Path, server: Server, **how: Any) -> Locum:
        """An appliance in front of one of the servers here."""
        return cls(home, server.auth_port, server.acct_port, server.secret, **how)

    def config_text(self) -> str:
        """The config as it stands."""
        parts = [
            table("[appliance]", {"name": "test", "state_dir": str(self.state_dir)}),
            table("[[upstream]]", self.upstream),
        ]
        for bind in self.binds:
            networks = ["::1/128"] if ":" in bind else ["127.0.0.0/8"]
            clients = [
                {"network": network, "secret_file": str(self.home / "copiers.secret"), **self.client}
                for network in networks
            ]
            parts.append(
                table(
                    "[[listen]]",
                    {
                        "dialect": "radius",
                        "bind": bind,
                        "auth_port": self.auth_port,
                        "accounting_port": self.acct_port,
                        "upstream": "hq",
                        "clients": clients,
                    },
                )
            )
        parts.append(table("[offline]", self.offline))
        return "\n".join(parts) + "\n" + self.more


def wall_clock() -> float:
    """Seconds since the epoch."""
    return time.time()
