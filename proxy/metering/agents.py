"""The SNMP agents whose meters are read, and how each is spoken to. No key is shown when one of these is printed."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class User:
    """A user of SNMPv3 (RFC 3414). `auth`: "", md5, sha1, sha224, sha256, sha384, sha512; `priv`: "", des, aes128,
    aes192, aes256. The keys are pass phrases.
    """

    name: str
    auth: str = ""
    auth_key: bytes = field(default=b"", repr=False)
    priv: str = ""
    priv_key: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Agent:
    """`address` is an IP literal; `version` is 1, 2 (for 2c) or 3; `context`: a context name of SNMPv3, "" where the
    device has but one. A request waits `timeout` seconds, and is sent `retries` times more.
    """

    address: str
    port: int = 161
    version: int = 2
    community: bytes = field(default=b"public", repr=False)
    user: User | None = None
    context: str = ""
    timeout: float = 1.0
    retries: int = 2
