"""Whether a server of the terminal dialect can be reached: TCP, TLS, HELLO and WELCOME.

HELLO is said under a name of its own: under the appliance's the server would close the connection of the one that runs.
"""

import socket
import time
from collections.abc import Generator

from appliance.check.findings import Finding, error, ok
from appliance.check.reach import LONGEST_WAIT, client_context, failure, place, resolved, running_out
from appliance.config import TerminalUpstreamConfig
from protocols.errors import ProtocolError
from protocols.terminal.frames import Broken, Decoder, Frame
from protocols.terminal.messages import Error, Hello, Message, Welcome, clip, decode, encode


def findings(upstream: TerminalUpstreamConfig, name: str) -> Generator[Finding, None, bool]:
    """Try every address; returns whether one said WELCOME."""
    reached = False
    for host in upstream.addresses:
        addresses = resolved(host)
        if isinstance(addresses, Finding):
            yield addresses
            continue
        for address in addresses:
            reached = (yield from _one(upstream, host, address, name)) or reached
    return reached


def _one(upstream: TerminalUpstreamConfig, host: str, address: str, name: str) -> Generator[Finding, None, bool]:
    what = f"upstream {upstream.name}, {place(address, upstream.port)}"
    timeout = min(max(upstream.answer_timeout, 1.0), LONGEST_WAIT)
    started = time.monotonic()
    try:
        with socket.create_connection((address, upstream.port), timeout) as plain:
            context = client_context(upstream.tls) if upstream.tls is not None else None
            connection = plain if context is None else context.wrap_socket(plain, server_hostname=host)
            with connection:
                late = running_out(what, connection)
                connection.sendall(encode(Hello(clip(f"{name}-check"), "Locum", "", 0), 1))
                said = _answer(connection, started + timeout)
    except OSError as problem:
        yield error(what, failure(problem, timeout))
        return False
    if late is not None:
        yield late
    match said:
        case Welcome():
            spent = (time.monotonic() - started) * 1000
            how = "over TLS" if upstream.tls is not None else "in the clear"
            yield ok(what, f'"{_clean(said.server_name)}" said WELCOME in {spent:.0f} ms, {how}')
            return True
        case Error():
            yield error(what, f'answers with ERROR {said.code} ("{_clean(said.message)}"); look into the server\'s log')
        case None:
            yield error(what, "is there, but does not speak the terminal dialect; correct address and port, or set tls")
        case _:
            yield error(what, "answers HELLO with something else than WELCOME; is it a server of the terminal dialect?")
    return False


def _answer(connection: socket.socket, deadline: float) -> Message | None:
    """The first message that comes; None if what comes is none. Raises OSError."""
    decoder = Decoder()
    while True:
        event = decoder.next_event()
        if isinstance(event, Broken):
            return None
        if isinstance(event, Frame):
            try:
                return decode(event)
            except ProtocolError:
                return None
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        data = connection.recv(4096)
        if not data:
            return None
        decoder.receive_data(data)


def _clean(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
