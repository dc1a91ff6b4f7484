"""Datagram sockets on loopback: answered from the address that was asked, refusals told, what cannot leave counted."""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from proxy.events import Peer
from proxy.net.udp import DevicePort, ServerPort, family_of, refusal


class Reactor:
    """Remembers its readers; the test reads for it."""

    def __init__(self) -> None:
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        if reader not in self.readers:
            self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        if reader in self.readers:
            self.readers.remove(reader)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def read(port: Any, most: float = 2.0) -> None:
    """Read once something (a datagram, or an error) is there."""
    assert select.select([port], [], [], most)[0], "nothing came"
    port.doRead()


def client(stack: ExitStack, family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
    made = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
    made.settimeout(2)
    return made


Make = Callable[[str], tuple[DevicePort, list[tuple[bytes, Peer]]]]


@pytest.fixture
def device_port(stack: ExitStack) -> Make:
    def make(address: str) -> tuple[DevicePort, list[tuple[bytes, Peer]]]:
        came: list[tuple[bytes, Peer]] = []
        port = DevicePort(Reactor(), address, 0, lambda data, peer: came.append((data, peer)))
        stack.callback(port.close)
        port.start()
        return port, came

    return make


def number_of(port: Any) -> int:
    return int(port._socket.getsockname()[1])


def test_a_wildcard_port_answers_from_the_address_that_was_asked(stack: ExitStack, device_port: Make) -> None:
    port, came = device_port("0.0.0.0")
    asker = client(stack)
    asker.connect(("127.0.0.2", number_of(port)))
    asker.send(b"who is there")
    read(port)
    ((data, peer),) = came
    assert data == b"who is there"
    assert peer[2] == "127.0.0.2"
    port.send(b"it is me", peer)
    assert asker.recv(100) == b"it is me"


def test_a_wildcard_port_answers_over_ipv6_too(stack: ExitStack, device_port: Make) -> None:
    port, came = device_port("::")
    asker = client(stack, socket.AF_INET6)
    asker.connect(("::1", number_of(port)))
    asker.send(b"six")
    read(port)
    ((data, peer),) = came
    assert (data, peer[0], peer[2]) == (b"six", "::1", "::1")
    port.send(b"answer", peer)
    assert asker.recv(100) == b"answer"


def test_a_port_on_one_address_needs_no_more(stack: ExitStack, device_port: Make) -> None:
    port, came = device_port("127.0.0.1")
    asker = client(stack)
    asker.connect(("127.0.0.1", number_of(port)))
    asker.send(b"x")
    read(port)
    assert came[0][1][2] == ""
    port.send(b"y", came[0][1])
    assert asker.recv(100) == b"y"


def test_several_datagrams_are_read_at_once_in_order(stack: ExitStack, device_port: Make) -> None:
    port, came = device_port("127.0.0.1")
    asker = client(stack)
    for each in range(10):
        asker.sendto(bytes((each,)), ("127.0.0.1", number_of(port)))
    read(port)
    assert [data for data, _ in came] == [bytes((each,)) for each in range(10)]


def test_an_empty_datagram_and_the_largest_are_read(stack: ExitStack, device_port: Make) -> None:
    port, came = device_port("127.0.0.1")
    asker = client(stack)
    for size in (0, 4096, 9000):
        asker.sendto(bytes(size), ("127.0.0.1", number_of(port)))
    read(port)
    assert [len(data) for data, _ in came] == [0, 4096, 4097], "one that is too large is seen to be"


def test_an_answer_that_cannot_leave_is_counted_and_raises_nothing(device_port: Make) -> None:
    port, _ = device_port("127.0.0.1")
    port.send(b"x" * 70_000, ("127.0.0.1", 9, ""))
    port.send(b"x", ("203.0.113.1", 0, ""))
    assert port.dropped == 2


def test_a_full_send_buffer_is_counted(stack: ExitStack) -> None:
    came: list[bytes] = []
    port = ServerPort(Reactor(), "127.0.0.1", 9, came.append, lambda text: None)
    stack.callback(port.close)
    real, port._socket = port._socket, Full()  # type: ignore[assignment]
    port.send(b"x")
    port._socket = real
    assert port.dropped == 1


class Full:
    """A socket whose buffer is full, which cannot be brought about on loopback."""

    def send(self, data: bytes) -> int:
        raise BlockingIOError(errno.EAGAIN, "try again")


def server_port(stack: ExitStack, port: int) -> tuple[ServerPort, list[bytes], list[str], Reactor]:
    came: list[bytes] = []
    refused: list[str] = []
    reactor = Reactor()
    made = ServerPort(reactor, "127.0.0.1", port, came.append, refused.append)
    stack.callback(made.close)
    return made, came, refused, reactor


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_an_icmp_refusal_is_told(stack: ExitStack) -> None:
    port, came, refused, _ = server_port(stack, free_port())
    port.send(b"anybody there")
    read(port)
    assert refused == ["connection refused"]
    assert came == []
    assert port.dropped == 0


def test_a_refusal_of_an_earlier_datagram_does_not_cost_the_next(stack: ExitStack) -> None:
    number = free_port()
    port, _, refused, _ = server_port(stack, number)
    port.send(b"lost")
    assert select.select([port], [], [], 2)[0]
    server = client(stack)
    server.bind(("127.0.0.1", number))
    port.send(b"arrives")
    assert server.recv(100) == b"arrives"
    assert refused == ["connection refused"]


def test_a_hang_up_is_just_a_pending_error_and_reading_goes_on(stack: ExitStack) -> None:
    port, _, refused, reactor = server_port(stack, free_port())
    port.send(b"x")
    assert select.select([port], [], [], 2)[0]
    reactor.removeReader(port)
    port.connectionLost(object())
    assert refused == ["connection refused"]
    assert reactor.readers == [port]


def test_only_the_servers_own_answers_are_heard(stack: ExitStack) -> None:
    server = client(stack)
    server.bind(("127.0.0.1", 0))
    port, came, _, _ = server_port(stack, server.getsockname()[1])
    port.send(b"q")
    _, source = server.recvfrom(100)
    client(stack).sendto(b"forged", source)
    server.sendto(b"answer", source)
    read(port)
    assert came == [b"answer"]


def test_no_route_is_told_and_tried_again_with_the_next_datagram(stack: ExitStack) -> None:
    refused: list[str] = []
    port = ServerPort(Reactor(), "192.0.2.1", 1812, lambda data: None, refused.append)
    stack.callback(port.close)
    if port._connected:
        pytest.skip("this machine has a route to 192.0.2.1")
    port.send(b"x")
    assert len(refused) == 2


def test_a_closed_port_is_read_no_more(stack: ExitStack) -> None:
    port, _, _, reactor = server_port(stack, free_port())
    assert reactor.readers == [port]
    port.close()
    assert reactor.readers == []


def test_families_and_words() -> None:
    assert family_of("10.0.0.1") == socket.AF_INET
    assert family_of("fe80::1%eth0") == socket.AF_INET6
    with pytest.raises(ValueError, match="does not appear"):
        family_of("server.example")
    assert refusal(OSError(errno.ECONNREFUSED, "x")) == "connection refused"
    assert refusal(OSError(errno.EHOSTUNREACH, "No route to host")) == "no route to host"
    assert refusal(OSError(errno.EMSGSIZE, "Message too long")) == ""
