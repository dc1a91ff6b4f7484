"""Twisted's reactor without OpenSSL, which Twisted loads with it wherever it is installed: 12 MB for nothing where no
TLS is configured.

Streams lay TLS over plain connections (proxy.net.tls), so it can still be had later, and is loaded then.
"""

from __future__ import annotations

import sys
from typing import Any


def lean_reactor() -> Any:
    """The reactor of this process, installed now if there is none yet."""
    hidden = "OpenSSL" not in sys.modules
    if hidden:
        sys.modules["OpenSSL"] = None  # type: ignore[assignment]
    try:
        from twisted.internet import reactor
    finally:
        if hidden:
            del sys.modules["OpenSSL"]
    return reactor
