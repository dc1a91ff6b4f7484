"""What an Accounting-Request says: the mark of a session, and the job if there are page counts.

RFC 2866 section 5, RFC 2869 section 5.3 (Event-Timestamp), RFC 3162 section 2.1. An authentic, well-framed request is
always kept and forwarded: what cannot be read, or cannot be true, is left off and named in `problem`, and all else is
read. The job is read in `jobs.py`; how a record is recognised again and what is sent on is in `forwarding.py`. Their
public names can be had from here too. Left out: octets and packets carried, which no copier counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from protocols.errors import Malformed
from protocols.radius import values
from protocols.radius.forwarding import forwarded, repeat_digests
from protocols.radius.jobs import (
    JOB_ATTRIBUTES,
    KINDS,
    JobFields,
    JobMapping,
    collect,
    default_mapping,
    mapping_from_names,
    read_job,
)
from protocols.radius.packet import Packet, Type

__all__ = [
    "JOB_ATTRIBUTES",
    "KINDS",
    "AccountingRequest",
    "JobFields",
    "JobMapping",
    "Status",
    "default_mapping",
    "forwarded",
    "mapping_from_names",
    "read",
    "repeat_digests",
]


class Status(StrEnum):
    """Acct-Status-Type (RFC 2866 section 5.1). OTHER is any other number, none, or one that cannot be read."""

    START = "start"
    INTERIM = "interim"
    STOP = "stop"
    ON = "on"
    OFF = "off"
    OTHER = "other"


_STATUS = {1: Status.START, 2: Status.STOP, 3: Status.INTERIM, 7: Status.ON, 8: Status.OFF}


@dataclass(frozen=True, slots=True)
class AccountingRequest:
    """What one Accounting-Request says. `delay` and `session_time` are seconds, `event_timestamp` Unix seconds.

    `problem` holds one or more constants in kebab-case, with ", " between them, for what could not be read or cannot
    be true.
    """

    status: Status
    user_name: str | None
    session_id: str
    nas_identifier: str | None
    nas_address: str | None
    classes: tuple[bytes, ...]
    delay: int
    event_timestamp: int | None
    session_time: int | None
    job: JobFields | None
    problem: str | None


def read(packet: Packet, mapping: JobMapping) -> AccountingRequest:
    """Read a well-framed Accounting-Request. Of an attribute that is there twice the first counts. Raises nothing."""
    first: dict[int, bytes] = {}
    held: dict[tuple[bytes, int], bytes] = {}
    classes: list[bytes] = []
    problems: list[str] = []
    for number, value in packet.attributes:
        if number == Type.VENDOR_SPECIFIC:
            if value[:4] in mapping.prefixes:
                collect(value, mapping, held, problems)
        else:
            if number == Type.CLASS:
                classes.append(value)
            first.setdefault(number, value)

    def get(number: int, convert: Callable[[bytes], Any], problem: str) -> Any:
        value = first.get(number)
        if value is None:
            return None
        try:
            return convert(value)
        except Malformed:
            problems.append(problem)
            return None

    status = get(Type.ACCT_STATUS_TYPE, values.integer, "acct-status-type-unreadable")
    if Type.ACCT_STATUS_TYPE not in first:
        problems.append("acct-status-type-missing")
    address = get(Type.NAS_IP_ADDRESS, values.ipv4, "nas-ip-address-unreadable")
    if address is None:
        address = get(Type.NAS_IPV6_ADDRESS, values.ipv6, "nas-ipv6-address-unreadable")
    return AccountingRequest(
        status=_STATUS.get(status, Status.OTHER),
        user_name=get(Type.USER_NAME, values.text, ""),
        session_id=get(Type.ACCT_SESSION_ID, values.text, "") or "",
        nas_identifier=get(Type.NAS_IDENTIFIER, values.text, ""),
        nas_address=address,
        classes=tuple(classes),
        delay=get(Type.ACCT_DELAY_TIME, values.integer, "acct-delay-time-unreadable") or 0,
        event_timestamp=get(Type.EVENT_TIMESTAMP, values.integer, "event-timestamp-unreadable"),
        session_time=get(Type.ACCT_SESSION_TIME, values.integer, "acct-session-time-unreadable"),
        job=read_job(first, held, mapping, problems),
        problem=", ".join(dict.fromkeys(problems)) or None,
    )
