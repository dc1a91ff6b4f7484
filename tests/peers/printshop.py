"""Locum as a test runs it with terminals and a PaperCut or terminal server: a config of one's own.

`Printshop` writes the config from parts: one upstream, a terminal listener, a RADIUS listener if asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.peers.appliance import Appliance, table
from tests.peers.ports import LOOPBACK, free_port

QUICK: Mapping[str, object] = {"answer_timeout": "500ms", "probe_interval": "500ms"}
TOKEN = "lab-token"


class Printshop(Appliance):
    """`upstream`: the keys of [[upstream]] (name, dialect, ...); `offline` those of [offline]; `listen` overrides keys
    of the terminal listener; `radius` adds a RADIUS listener towards the same upstream; `more` is TOML to append.
    """

    def __init__(
        self,
        home: Path,
        upstream: Mapping[str, object],
        *,
        offline: Mapping[str, object] | None = None,
        listen: Mapping[str, object] | None = None,
        radius: bool = False,
        more: str = "",
        name: str = "test",
        state_dir: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(home, state_dir=state_dir, environment=environment)
        self.name = name
        self.port = free_port()
        self.auth_port, self.acct_port = free_port(), free_port()
        self.upstream = {"name": "hq", **QUICK, **upstream}
        self.offline = {"delay": "1s", **(offline or {})}
        self.listen = {
            "dialect": "terminal",
            "bind": LOOPBACK[4],
            "port": self.port,
            "upstream": "hq",
            **(listen or {}),
        }
        self.radius = radius
        self.more = more
        self.secret = b"copier-secret"
        self.write_secret("copiers.secret", self.secret)
        self.write_config()

    @classmethod
    def before_papercut(
        cls, home: Path, url: str, token: str = TOKEN, *, keys: Mapping[str, object] | None = None, **how: object
    ) -> Printshop:
        """In front of a PaperCut server at `url`; `keys` are further ones of its [[upstream]]."""
        home.mkdir(parents=True, exist_ok=True)
        file = home / "hq.token"
        file.touch(mode=0o600)
        file.write_text(token + "\n")
        upstream = {"dialect": "papercut", "url": url, "token_file": str(file), **(keys or {})}
        return cls(home, upstream, **how)  # type: ignore[arg-type]

    @classmethod
    def before_terminal(
        cls, home: Path, port: int, *, keys: Mapping[str, object] | None = None, **how: object
    ) -> Printshop:
        """In front of a terminal server on loopback."""
        upstream = {"dialect": "terminal", "address": LOOPBACK[4], "port": port, **(keys or {})}
        return cls(home, upstream, **how)  # type: ignore[arg-type]

    def config_text(self) -> str:
        parts = [
            table("[appliance]", {"name": self.name, "state_dir": str(self.state_dir)}),
            table("[[upstream]]", self.upstream),
            table("[[listen]]", self.listen),
        ]
        if self.radius:
            clients = [{"network": "127.0.0.0/8", "secret_file": str(self.home / "copiers.secret")}]
            ports = {"auth_port": self.auth_port, "accounting_port": self.acct_port}
            keys = {"dialect": "radius", "bind": LOOPBACK[4], **ports, "upstream": "hq", "clients": clients}
            parts.append(table("[[listen]]", keys))
        parts.append(table("[offline]", self.offline))
        return "\n".join(parts) + "\n" + self.more
