"""Which secrets may fit what a capture holds: those of the configuration, by address, or one that was named."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

from appliance.config import Config, RadiusListenConfig, RadiusUpstreamConfig
from appliance.seeing.radius import SecretsOf

LARGEST = 1_024


class WrongSecret(Exception):
    """The file holds no secret. The text is one line for a person."""


def from_file(path: Path) -> SecretsOf:
    """The secret in a file, for whoever talks to whom. Raises WrongSecret."""
    try:
        with path.open("rb") as stream:
            content = stream.read(LARGEST + 1)
    except OSError as error:
        raise WrongSecret(f"{path}: cannot be read ({error.strerror})") from error
    secret = content.removesuffix(b"\n").removesuffix(b"\r")
    if not secret or len(secret) > LARGEST or b"\n" in secret:
        raise WrongSecret(f"{path}: holds no secret of one line")
    return lambda device, server: (secret,)


def from_config(config: Config) -> SecretsOf:
    """Those of the listeners' clients at the device's address, then those of the servers."""
    clients = [
        client for listen in config.listens if isinstance(listen, RadiusListenConfig) for client in listen.clients
    ]
    servers = tuple(each.secret.value for each in config.upstreams if isinstance(each, RadiusUpstreamConfig))
    known: dict[str, tuple[bytes, ...]] = {}

    def secrets_of(device: str, server: str) -> tuple[bytes, ...]:
        if device not in known:
            address = ip_address(device)
            own = [
                each.secret.value
                for each in clients
                if each.network.version == address.version and address in each.network
            ]
            known[device] = tuple(dict.fromkeys((*own, *servers)))
        return known[device]

    return secrets_of


def none_known(device: str, server: str) -> tuple[bytes, ...]:
    """Nothing is known."""
    return ()
