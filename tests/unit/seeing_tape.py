"""An office as it is seen passing: RADIUS copiers, a terminal, and somebody who calls PaperCut."""

from __future__ import annotations

from pathlib import Path

from protocols.papercut.calls import encode_call
from protocols.radius.packet import Code, Type, vendor_attribute
from protocols.radius.secrets import hide_password, sign_accounting_request, sign_request, sign_response
from tests.peers import terminal as line
from tests.peers.captures import COPIER, SERVER, Tape

SECRET = b"a long shared secret"
CARD = "04A1B2C3D4"
TOKEN = "a-very-secret-token"
AUTH, ACCT = (SERVER, 1812), (SERVER, 1813)
DEVICE = b"KM-A4F-000123"
_AUTHENTICATOR = bytes(range(16))


def login(tape: Tape, *, card: str = CARD, code: int = Code.ACCESS_ACCEPT, port: int = 1812, number: int = 1) -> None:
    """A swipe and its answer."""
    copier, server = (COPIER, 50_001), (SERVER, port)
    attributes = (
        (Type.USER_NAME, card.encode()),
        (Type.USER_PASSWORD, hide_password(b"", _AUTHENTICATOR, SECRET)),
        (Type.NAS_IDENTIFIER, DEVICE),
    )
    tape.udp(copier, server, sign_request(Code.ACCESS_REQUEST, number, _AUTHENTICATOR, attributes, SECRET))
    tape.udp(server, copier, sign_response(code, number, (), _AUTHENTICATOR, SECRET, message_authenticator=True))


def record(
    session: str = "5A01",
    *,
    pages: int = 3,
    number: int = 2,
    delay: int = 0,
    stamp: int | None = 1_794_999_000,
    record_id: str = "",
    name: str = CARD,
) -> bytes:
    """A Stop with a job."""
    attributes = [
        (Type.USER_NAME, name.encode()),
        (Type.NAS_IDENTIFIER, DEVICE),
        (Type.ACCT_STATUS_TYPE, (2).to_bytes(4, "big")),
        (Type.ACCT_SESSION_ID, session.encode()),
        vendor_attribute(32473, 1, (1).to_bytes(4, "big")),
        vendor_attribute(32473, 3, pages.to_bytes(4, "big")),
        vendor_attribute(32473, 2, b"J7"),
    ]
    if delay:
        attributes.append((Type.ACCT_DELAY_TIME, delay.to_bytes(4, "big")))
    if stamp is not None:
        attributes.append((Type.EVENT_TIMESTAMP, stamp.to_bytes(4, "big")))
    if record_id:
        attributes.append(vendor_attribute(32473, 12, record_id.encode()))
    return sign_accounting_request(number, tuple(attributes), SECRET)


def account(tape: Tape, datagram: bytes, *, answered: bool = True, secret: bytes = SECRET) -> None:
    """An accounting record, and the server's acknowledgement."""
    copier = (COPIER, 50_002)
    tape.udp(copier, ACCT, datagram)
    if answered:
        said = sign_response(
            Code.ACCOUNTING_RESPONSE, datagram[1], (), datagram[4:20], secret, message_authenticator=False
        )
        tape.udp(ACCT, copier, said)


def terminal(tape: Tape, *, jobs: tuple[int, ...] = (1,), acknowledged: bool = True, hello: bool = True) -> None:
    """A terminal connects, somebody swipes, and makes jobs."""
    stream = tape.call(("10.7.0.32", 50_003), (SERVER, 9790))
    if hello:
        stream.send(line.frame(line.HELLO, 1, line.hello("T-1", "bizhub C368")))
        stream.answer(line.frame(0x81, 1, line.text("server") + bytes(10) + b"\0"))
    stream.send(line.frame(line.LOGIN, 2, line.login(CARD)))
    granted = b"\0" + (99).to_bytes(8, "big") + line.text("ada") + line.text("") + bytes(8) + b"\0\x1f"
    stream.answer(line.frame(0x82, 2, granted))
    for number in jobs:
        payload = line.job(99, number, pages=5, document="letter")
        stream.send(line.frame(line.JOB, 2 + number, payload), size=20)
        if acknowledged:
            stream.answer(line.frame(0x84, 2 + number, number.to_bytes(8, "big") + b"\0"))
    stream.close()


def http(tape: Tape, method: str, *arguments: str, answer: bytes) -> None:
    """A call to PaperCut, and its answer."""
    stream = tape.call(("10.7.0.33", 50_004), (SERVER, 9191))
    body = encode_call(method, TOKEN, *arguments)
    head = f"POST /rpc/api/xmlrpc HTTP/1.1\r\nHost: s\r\nContent-Type: text/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    stream.send(head.encode() + body, size=90)
    stream.answer(f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer)}\r\n\r\n".encode() + answer, size=50)
    stream.close()


def office(tape: Tape) -> Tape:
    """Something of everything."""
    login(tape)
    account(tape, record())
    terminal(tape)
    answer = b"<methodResponse><params><param><value>ada</value></param></params></methodResponse>"
    http(tape, "api.lookUpUserNameByCardNo", CARD, answer=answer)
    return tape


def written(tape: Tape, folder: Path, name: str = "office.pcapng") -> Path:
    return tape.write(folder / name, pcapng=name.endswith("ng"))
