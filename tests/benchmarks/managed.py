"""The SNMP proxy's answers from memory, beside snmpd's own from the same machine in the same minute.

snmpd is the copier too: what the proxy remembers is what snmpd says. Both are asked by one program, 16 questions under
way, by SNMPv2c and by SNMPv3 (authPriv, SHA-256 and AES-128), for three objects at a time.
"""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Sequence

from protocols.snmp import messages, usm
from protocols.snmp.messages import Message, Pdu, Varbind
from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import Figure
from tests.peers.appliance import table
from tests.peers.locum import Locum
from tests.peers.netsnmp import AUTH, PRIV, USER, snmpd
from tests.peers.ports import LOOPBACK, free_port
from tests.peers.skips import program

OBJECTS = ("1.3.6.1.2.1.1.1.0", "1.3.6.1.2.1.1.4.0", "1.3.6.1.2.1.1.6.0")
COMMUNITY = b"old"
QUESTIONS = 4_000
AT_ONCE = 16
ROUNDS = 5
WITHIN = 2.0


def cached(bench: Bench) -> Sequence[Figure]:
    """Reads a second that the proxy answers from memory."""
    if program("snmpd") is None:
        print("snmp-cached: snmpd is not installed (Debian: apt-get install snmpd)", flush=True)
        return []
    copier = bench.ending(snmpd(bench.folder / "copier"))
    port = free_port()
    keys = {"bind": LOOPBACK[4], "user": USER, "auth_key": AUTH, "priv_key": PRIV, "community": COMMUNITY.decode()}
    more = table("[[device]]", {"id": "OLD-1", "snmp": {"address": LOOPBACK[4], "port": copier.port,
                                                       "version": "2c", "community": "old"}})  # fmt: skip
    more += table("[snmp.proxy]", {**keys, "max_age": "1h", "copiers": [{"device": "OLD-1", "port": port}]})
    locum: Locum = bench.ending(Locum.before(bench.folder / "locum", bench.sink(), more=more)).start()
    locum.wait_until_proven(15)
    before = locum.memory() / 1e6
    rates: dict[tuple[str, str], list[float]] = {}
    for _ in range(ROUNDS):
        for who, where in (("proxy", port), ("snmpd", copier.port)):
            for version, questions in (("v2c", _plain()), ("v3", _secure(where))):
                rates.setdefault((who, version), []).append(_rate(where, questions))
    return [
        *(
            Figure(
                f"cached SNMP reads over {version}",
                "/s",
                statistics.median(rates["proxy", version]),
                beside=statistics.median(rates["snmpd", version]),
                beside_is="snmpd:",
                note=f"{len(OBJECTS)} objects each, {AT_ONCE} under way",
            )
            for version in ("v2c", "v3")
        ),
        Figure("memory after them", "MB", locum.memory() / 1e6, lower=True, note=f"before {before:.0f} MB"),
    ]


def _plain() -> list[bytes]:
    return [messages.request(messages.V2C, COMMUNITY, number, OBJECTS) for number in range(QUESTIONS)]


def _secure(port: int) -> list[bytes]:
    """Questions of SNMPv3, each with a number of its own; the engine says first who it is (RFC 3414 section 4)."""
    with _asking(port) as asking:
        asking.send(usm.encode(usm.Secured(1, 65_507, 4, b"", 0, 0, b"", b"", b"", _scoped(b"", 1, ())), None))
        found = usm.decode(asking.recv(65_507))
    keys = usm.keys_of("sha256", AUTH.encode(), "aes128", PRIV.encode(), found.engine)
    return [
        usm.encode(
            usm.Secured(
                number, 65_507, keys.flags | 4, found.engine, found.boots, found.time, USER.encode(), b"",
                number.to_bytes(8, "big"), _scoped(found.engine, number, OBJECTS),
            ),
            keys,
        )
        for number in range(1, QUESTIONS + 1)
    ]  # fmt: skip


def _scoped(engine: bytes, number: int, oids: Sequence[str]) -> bytes:
    asked = tuple(Varbind(oid, "null") for oid in oids)
    return usm.scoped(engine, b"", messages.encode_pdu(Message(messages.V3, b"", Pdu.GET, number, 0, 0, asked)))


def _asking(port: int) -> socket.socket:
    asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    asking.settimeout(WITHIN)
    asking.connect((LOOPBACK[4], port))
    return asking


def _rate(port: int, questions: Sequence[bytes]) -> float:
    """Answers a second. All questions must be answered."""
    with _asking(port) as asking:
        asking.send(questions[0])
        asking.recv(65_507)
        began = time.perf_counter()
        sent = 1
        for answered in range(1, len(questions)):
            while sent < len(questions) and sent - answered < AT_ONCE:
                asking.send(questions[sent])
                sent += 1
            asking.recv(65_507)
        return (len(questions) - 1) / (time.perf_counter() - began)
