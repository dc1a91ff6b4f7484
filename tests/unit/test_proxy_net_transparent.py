"""Sockets in line, in a network of their own where every marked packet is for this machine, whatever its address."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from proxy.commands import Close, Command, Connect, Open, Send, Source, Tls
from proxy.events import Closed, Connected, Event, Received
from proxy.net.transparent import MARK
from tests.peers.own_network import own_network
from tests.unit.stream_bench import Bench, Script, certificate

COPIER, COPIER6 = "10.7.0.31", "2001:db8:7::31"
SERVER, SERVER6 = "192.0.2.1", "2001:db8::1"
SOURCES = [(COPIER, SERVER), (COPIER6, SERVER6)]
THERE = ("hq", "test", 0)
HERE = ("listen", 1)


def set_up(key: str, value: str) -> None:
    Path(f"/proc/sys/net/ipv4/{key}").write_text(value)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened, own_network():
        for version in ("-4", "-6"):
            for words in (f"rule add fwmark {MARK:#x} lookup 100", "route add local default dev lo table 100"):
                subprocess.run(["ip", version, *words.split()], check=True)
        set_up("fwmark_reflect", "1")
        yield opened


@pytest.fixture
def bench(tmp_path: Path, stack: ExitStack) -> Iterator[Bench]:
    made = Bench(tmp_path, transparent=True)
    yield made
    made.close()


def foreign(stack: ExitStack, kind: socket.SocketKind, address: str, port: int = 0) -> socket.socket:
    """A socket of another machine: one with an address that this machine does not have."""
    v6 = ":" in address
    made = stack.enter_context(socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, kind))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
    made.setsockopt(*((socket.IPPROTO_IPV6, 75) if v6 else (socket.IPPROTO_IP, socket.IP_TRANSPARENT)), 1)
    made.bind((address, port))
    made.settimeout(3)
    return made


def server(stack: ExitStack, address: str = SERVER) -> socket.socket:
    made = foreign(stack, socket.SOCK_STREAM, address)
    made.listen(8)
    return made


def of(made: socket.socket) -> tuple[str, int]:
    address, port = made.getsockname()[:2]
    return str(address), int(port)


def echo(event: Event) -> list[Command]:
    peer = event.peer if isinstance(event, Received) and len(event.channel) == len(HERE) else None
    return [Send(event.channel, event.data, peer)] if isinstance(event, Received) else []


# Datagrams


@pytest.mark.parametrize(("copier", "there"), SOURCES)
def test_a_datagram_has_the_devices_address_and_port_and_its_answer_comes_back(
    bench: Bench, stack: ExitStack, copier: str, there: str
) -> None:
    hq, flow = foreign(stack, socket.SOCK_DGRAM, there), Script()
    bench.driver.run([Open(THERE, flow, *of(hq), Source(copier, 50123)), Send(THERE, b"who is it")])
    data, source = hq.recvfrom(100)
    assert (data, source[:2]) == (b"who is it", (copier, 50123))
    hq.sendto(b"the copier", source)
    bench.until(lambda: flow.of(Received))
    assert [event.data for event in flow.of(Received)] == [b"the copier"]
    assert bench.driver.losses() == {}


@pytest.mark.parametrize(("copier", "there"), SOURCES)
def test_a_device_is_answered_from_the_address_that_it_asked(
    bench: Bench, stack: ExitStack, copier: str, there: str
) -> None:
    bench.driver.listen(HERE, Script(echo), "::" if ":" in there else "0.0.0.0", 1812)
    bench.driver.open_for_devices(HERE)
    device = foreign(stack, socket.SOCK_DGRAM, copier)
    device.sendto(b"is that the server", (there, 1812))
    answer, source = bench.meanwhile(lambda: device.recvfrom(100))
    assert (answer, source[:2]) == (b"is that the server", (there, 1812))


def test_devices_may_ask_from_the_port_that_the_server_has_too(bench: Bench, stack: ExitStack) -> None:
    hq, flow = foreign(stack, socket.SOCK_DGRAM, SERVER), Script()
    bench.driver.listen(HERE, Script(), "0.0.0.0", 1812)
    bench.driver.run([Open(THERE, flow, *of(hq), Source(COPIER, 1812)), Send(THERE, b"?")])
    assert hq.recvfrom(100)[1] == (COPIER, 1812)


def test_one_port_of_a_device_speaks_to_two_servers(bench: Bench, stack: ExitStack) -> None:
    flow = Script()
    both = [foreign(stack, socket.SOCK_DGRAM, SERVER) for _ in range(2)]
    for number, hq in enumerate(both):
        channel = (*THERE, number)
        bench.driver.run([Open(channel, flow, *of(hq), Source(COPIER, 50123)), Send(channel, b"%d" % number)])
        data, source = hq.recvfrom(100)
        assert source == (COPIER, 50123)
        hq.sendto(data, source)
    bench.until(lambda: len(flow.of(Received)) == 2)
    assert [(event.channel[-1], event.data) for event in flow.of(Received)] == [(0, b"0"), (1, b"1")]


def test_a_port_that_cannot_be_had_is_replaced_by_another_of_the_same_address_and_counted(
    bench: Bench, stack: ExitStack
) -> None:
    hq, flow = foreign(stack, socket.SOCK_DGRAM, SERVER), Script()
    taken = foreign(stack, socket.SOCK_DGRAM, COPIER)
    bench.driver.run([Open(THERE, flow, *of(hq), Source(*of(taken))), Send(THERE, b"?")])
    source = hq.recvfrom(100)[1]
    assert source[0] == COPIER
    assert source[1] != of(taken)[1]
    assert bench.driver.losses() == {"another-port": 1}


def test_any_port_is_one_that_nothing_else_of_the_address_has(bench: Bench, stack: ExitStack) -> None:
    hq, flow = foreign(stack, socket.SOCK_DGRAM, SERVER), Script()
    for number in range(200):
        channel = (*THERE, number)
        bench.driver.run([Open(channel, flow, *of(hq), Source(COPIER)), Send(channel, b"?")])
    assert len({hq.recvfrom(100)[1] for _ in range(200)}) == 200


def test_what_cannot_be_sent_to_the_other_ip_version_is_counted_and_nothing_else_happens(bench: Bench) -> None:
    bench.driver.run([Open(THERE, Script(), SERVER6, 1812, Source(COPIER, 5000)), Send(THERE, b"?")])
    assert bench.driver.losses() == {"not-sent": 1}


# Streams


@pytest.mark.parametrize(("copier", "there"), SOURCES)
def test_a_stream_has_the_devices_address_and_port(bench: Bench, stack: ExitStack, copier: str, there: str) -> None:
    hq, flow = server(stack, there), Script(echo)
    bench.driver.run([Connect(THERE, flow, *of(hq), 2.0, source=Source(copier, 50123))])
    connection, source = bench.meanwhile(hq.accept)
    stack.enter_context(connection)
    assert source[:2] == (copier, 50123)
    connection.sendall(b"hello")
    assert bench.meanwhile(lambda: connection.recv(100)) == b"hello"
    (connected,) = flow.of(Connected)
    assert connected.peer[:2] == of(hq)
    assert bench.driver.losses() == {}


@pytest.mark.parametrize(("copier", "there"), SOURCES)
def test_a_device_reaches_the_listener_by_the_servers_address(
    bench: Bench, stack: ExitStack, copier: str, there: str
) -> None:
    flow = Script(echo)
    bench.driver.listen_stream(HERE[:1], flow, "::" if ":" in there else "0.0.0.0", 9790)
    bench.driver.open_for_devices(HERE[:1])
    device = foreign(stack, socket.SOCK_STREAM, copier)
    bench.meanwhile(lambda: device.connect((there, 9790)))
    (connected,) = bench.until(lambda: flow.of(Connected))
    assert connected.peer == (*of(device), there)
    device.sendall(b"hello")
    assert bench.meanwhile(lambda: device.recv(100)) == b"hello"


def test_a_stream_over_tls_has_the_devices_address(bench: Bench, stack: ExitStack) -> None:
    authority = certificate("ca", ca=True)
    own = certificate("hq", authority, names=(SERVER,))
    here, flow = Script(echo), Script()
    pem = Tls("", b"", own.certificate, own.key)
    bench.driver.listen_stream(HERE[:1], here, "0.0.0.0", 9791, pem)
    bench.driver.open_for_devices(HERE[:1])
    ca = Tls(SERVER, authority.certificate)
    bench.driver.run([Connect(THERE, flow, SERVER, 9791, 3.0, ca, Source(COPIER, 50123))])
    bench.until(lambda: flow.of(Connected) and here.of(Connected))
    assert here.of(Connected)[0].peer == (COPIER, 50123, SERVER)


def connected_twice(bench: Bench, stack: ExitStack) -> list[tuple[str, int]]:
    """Where two connections come from that are made one after the other with one port; each is ended by Locum."""
    hq, sources, at_rest = server(stack), [], len(bench.reactor.getReaders())
    for number in range(2):
        flow, channel = Script(), (*THERE, number)
        bench.driver.run([Connect(channel, flow, *of(hq), 2.0, source=Source(COPIER, 50123))])
        connection, source = bench.meanwhile(hq.accept)
        sources.append(source)
        bench.until(partial(flow.of, Connected))
        bench.driver.run([Close(channel)])
        with connection:
            assert bench.meanwhile(partial(connection.recv, 1)) == b""
        bench.until(lambda: len(bench.reactor.getReaders()) == at_rest)
    return sources


def test_a_device_that_connects_again_with_its_port_keeps_it(bench: Bench, stack: ExitStack) -> None:
    """The kernel gives a port that rests to the same owner again, where both sides have timestamps (RFC 7323)."""
    assert connected_twice(bench, stack) == [(COPIER, 50123)] * 2


def test_a_port_that_cannot_be_had_yet_is_replaced_by_another_of_the_same_address(
    bench: Bench, stack: ExitStack
) -> None:
    set_up("tcp_timestamps", "0")
    first, second = connected_twice(bench, stack)
    assert first == (COPIER, 50123)
    assert second[0] == COPIER
    assert second[1] != 50123
    assert bench.driver.losses() == {"another-port": 1}


def test_two_streams_of_one_port_reach_two_servers(bench: Bench, stack: ExitStack) -> None:
    for number, address in enumerate((SERVER, "192.0.2.2")):
        hq = server(stack, address)
        bench.driver.run([Connect((*THERE, number), Script(), *of(hq), 2.0, source=Source(COPIER, 50123))])
        connection, source = bench.meanwhile(hq.accept)
        stack.enter_context(connection)
        assert source == (COPIER, 50123)


def test_a_refusal_is_told_as_one(bench: Bench, stack: ExitStack) -> None:
    subprocess.run(["ip", "addr", "add", "192.0.2.3/32", "dev", "lo"], check=True)
    flow = Script()
    bench.driver.run([Connect(THERE, flow, "192.0.2.3", 9, 2.0, source=Source(COPIER, 50123))])
    (closed,) = bench.until(lambda: flow.of(Closed))
    assert (closed.text, closed.refused) == ("connection refused", True)


def test_no_answer_is_told_in_time(bench: Bench, stack: ExitStack) -> None:
    hq = foreign(stack, socket.SOCK_STREAM, SERVER)
    hq.listen(0)
    waiting = [foreign(stack, socket.SOCK_STREAM, COPIER) for _ in range(3)]
    for each in waiting:
        each.setblocking(False)
        each.connect_ex(of(hq))
    flow = Script()
    bench.driver.run([Connect(THERE, flow, *of(hq), 0.3, source=Source(COPIER, 50123))])
    (closed,) = bench.until(lambda: flow.of(Closed))
    assert (closed.text, closed.refused) == ("no answer in 0.3 s", False)


def test_a_stream_that_is_closed_while_it_is_being_opened_is_nobodys(bench: Bench, stack: ExitStack) -> None:
    hq, flow = server(stack), Script()
    bench.driver.run([Connect(THERE, flow, *of(hq), 2.0, source=Source(COPIER, 50123)), Close(THERE)])
    bench.turn(0.1)
    assert flow.seen == []
    assert bench.reactor.getWriters() == []


def test_the_other_ip_version_is_no_way_and_is_told(bench: Bench) -> None:
    flow = Script()
    bench.driver.run([Connect(THERE, flow, SERVER6, 9790, 2.0, source=Source(COPIER, 50123))])
    (closed,) = bench.until(lambda: flow.of(Closed))
    assert closed.text


# Who may


def test_without_the_capability_the_port_says_what_is_missing(bench: Bench) -> None:
    os.seteuid(65534)
    try:
        with pytest.raises(OSError, match="CAP_NET_ADMIN") as datagrams:
            bench.driver.listen(HERE, Script(), "0.0.0.0", 1812)
        with pytest.raises(OSError, match="CAP_NET_ADMIN"):
            bench.driver.listen_stream(HERE, Script(), "0.0.0.0", 9790)
        bench.driver.run([Open(THERE, Script(), SERVER, 1812, Source(COPIER)), Send(THERE, b"?")])
    finally:
        os.seteuid(0)
    assert datagrams.value.errno == errno.EPERM
    assert bench.driver.losses() == {"not-sent": 1}
