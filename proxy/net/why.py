"""Why a stream ended or did not begin, in words for an admin.

TLS's own errors are told apart by what OpenSSL calls them (its reason strings are those of RFC 8446 section 6, in lower
case); nothing here imports it.
"""

from __future__ import annotations

import os

from twisted.internet.error import ConnectError, ConnectionAborted, ConnectionDone, ConnectionLost

from proxy.net.udp import refusal

NO_TLS = "the other side does not speak TLS on this port"
_WORDS = (
    ("unknown ca", "the other side does not know the CA that signed our certificate"),
    ("certificate required", "the other side wants a client certificate: set certificate_file and key_file"),
    ("certificate expired", "the other side says that our certificate has expired"),
    ("certificate revoked", "the other side says that our certificate is revoked"),
    ("certificate unknown", "the other side does not accept our certificate"),
    ("bad certificate", "the other side does not accept our certificate"),
    ("unsupported certificate", "the other side does not accept our certificate, which may be made for another use"),
    ("did not return a certificate", "it showed no certificate"),
    ("protocol version", "no version of TLS in common: 1.2 or newer is needed"),
    ("unsupported protocol", "no version of TLS in common: 1.2 or newer is needed"),
    ("version too low", "no version of TLS in common: 1.2 or newer is needed"),
    ("no shared cipher", "no cipher in common"),
    ("handshake failure", "the other side broke off the TLS handshake: it may want a client certificate"),
    ("wrong version number", NO_TLS),
    ("http request", NO_TLS),
    ("record layer failure", NO_TLS),
    ("packet length too long", NO_TLS),
    ("unknown protocol", NO_TLS),
    ("certificate verify failed", "its certificate does not do"),
)


def why_lost(error: BaseException | None, in_handshake: bool, silent: bool) -> tuple[str, bool]:
    """What ended a connection, and whether the network or the other side refused it.

    `in_handshake`: TLS was not up yet. `silent`: nothing had been heard for as long as the kernel waits.
    """
    if isinstance(error, ConnectionDone | ConnectionLost) and in_handshake:
        return "the other side closed the connection during the TLS handshake", True
    if isinstance(error, ConnectionDone):
        return "the other side closed the connection", False
    if isinstance(error, ConnectionAborted):
        return "the connection was given up", False
    if isinstance(error, ConnectionLost):
        return ("the other side does not answer any more", False) if silent else ("the connection was reset", True)
    return why_no_tls(error), False


def why_no_tls(error: BaseException | None) -> str:
    """An OpenSSL error, whose argument is a list of (library, function, reason)."""
    try:
        reason = str(error.args[0][-1][2]).lower() if error is not None else ""
    except (IndexError, TypeError, KeyError):
        reason = ""
    for part, words in _WORDS:
        if part in reason:
            return words
    return f"TLS failed: {reason}" if reason else "TLS failed"


def why_not_connected(error: BaseException | None) -> tuple[str, bool]:
    """What kept a connection from being made, and whether it was a refusal."""
    number = error.osError if isinstance(error, ConnectError) else getattr(error, "errno", None)
    if isinstance(number, int):
        text = refusal(OSError(number, os.strerror(number)))
        if text:
            return text, True
        if isinstance(error, OSError) and error.strerror:
            return error.strerror, False
        return os.strerror(number).lower(), False
    return "it cannot be connected to", False
