"""What `locum init` has to know."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers as they were given; `write` finds out whether a configuration comes of them.

    `address` is for the dialects radius and terminal, `url`, `time_zone` and `ca_file` for papercut. `secret` is the
    server's (RADIUS) or its token (PaperCut); `copier_secret` the RADIUS devices'. `tls`: a certificate is made for the
    terminal listener. `unlock_hash`: "" none.
    """

    name: str
    state_dir: Path
    upstream_name: str
    dialect: str
    listens: tuple[str, ...]
    address: str = ""
    upstream_port: int = 9790
    url: str = ""
    time_zone: str = ""
    ca_file: Path | None = None
    secret: bytes = b""
    copier_secret: bytes = b""
    networks: tuple[str, ...] = ()
    bind: str = "0.0.0.0"
    environment: str = "commercial"
    delay: str = "60s"
    tls: bool = False
    unlock_hash: str = ""
