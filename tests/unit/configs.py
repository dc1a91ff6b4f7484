"""A small configuration that holds, for tests that change one thing of it."""

from pathlib import Path

from appliance.config import Config, load

SMALL = """\
[appliance]
name = "library"
state_dir = "state"

[[upstream]]
name = "hq"
dialect = "radius"
address = "10.0.0.5"
secret = "between us and hq"

[[listen]]
dialect = "radius"
bind = "127.0.0.1"
upstream = "hq"
clients = [{ network = "10.7.0.0/24", secret = "copiers" }]
"""


def write(folder: Path, text: str | bytes, mode: int = 0o640) -> Path:
    """Put a configuration into `folder`."""
    file = folder / "locum.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    file.chmod(mode)
    return file


def loaded(folder: Path, text: str | bytes) -> Config:
    """Write a configuration and load it."""
    return load(write(folder, text))
