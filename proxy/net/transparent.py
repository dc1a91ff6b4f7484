"""Sockets in line: they take what is for other machines, and speak with other machines' addresses.

Linux's IP_TRANSPARENT and IPV6_TRANSPARENT (ip(7)), and a mark (SO_MARK) by which the kernel's routes and rules know
what is Locum's. Both need the capability CAP_NET_ADMIN. How packets come here is the kernel's side: `appliance/inline`.
"""

from __future__ import annotations

import errno
import socket

from proxy.commands import Source

MARK = 0x4C6F
"""On every packet of such a socket."""
ANOTHER_PORT = "another-port"
"""Counted: a device's own port could not be had, and any other of its address was taken."""

_IPV6_TRANSPARENT = 75
_IP_BIND_ADDRESS_NO_PORT = 24
_NOT_TO_BE_HAD = {errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES}


def make_transparent(made: socket.socket) -> None:
    """Before it is bound. Raises OSError (EPERM), with words, if this process may not."""
    try:
        if made.family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
        else:
            made.setsockopt(socket.IPPROTO_IP, socket.IP_TRANSPARENT, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
    except PermissionError as error:
        words = "standing in line needs the capability CAP_NET_ADMIN"
        raise OSError(errno.EPERM, words) from error


def bind_as(made: socket.socket, source: Source) -> None:
    """Give a transparent socket a device's address and port. Raises OSError; see `not_to_be_had`."""
    stream = made.type == socket.SOCK_STREAM
    if source.port or stream:
        # Datagram sockets that share an address would also be given each other's ports where any port will do.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if not source.port and stream:
        # The port is chosen when it is known where to: the same one then serves towards several servers.
        made.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
    made.bind((source.address, source.port))


def not_to_be_had(error: OSError, source: Source) -> bool:
    """Whether another port of the same address may do: this one is in use, or not over yet."""
    return bool(source.port) and error.errno in _NOT_TO_BE_HAD
