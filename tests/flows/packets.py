"""What the RADIUS flow tests read in packets and in the outbox."""

from __future__ import annotations

from protocols.radius.packet import Attributes, Packet, Type
from tests.flows.house import House


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


def integer(packet: Packet, kind: int) -> int | None:
    value = packet.get(kind)
    return None if value is None else int.from_bytes(value, "big")


def record_id(packet: Packet) -> str:
    return next((value.decode() for kind, value in packet.vendor(32473) if kind == 12), "")


def job_number(packet: Packet) -> str:
    return next((value.decode() for kind, value in packet.vendor(32473) if kind == 2), "")


def session(packet: Packet) -> str:
    return (packet.get(Type.ACCT_SESSION_ID) or b"").decode()


def outbox(house: House) -> dict[str, int]:
    return dict(house.rows("SELECT state, count(*) FROM outbox GROUP BY state"))


def fill(house: House, count: int, sessions: int = 1_000_000) -> None:
    for each in range(count):
        house.account(session=f"s{each % sessions}", job=str(each))


def attributes_of(house: House, request: bytes) -> Attributes:
    (answer,) = house.answers(request)
    return tuple(each for each in answer.attributes if each[0] != Type.MESSAGE_AUTHENTICATOR)


def class_of(house: House, request: bytes) -> bytes:
    value = house.answers(request)[0].get(Type.CLASS)
    assert value is not None
    return value
