"""The reactor without OpenSSL: lean until TLS is asked for, and then TLS works all the same."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys, tempfile
from pathlib import Path
from proxy.net.reactor import lean_reactor
reactor = lean_reactor()
assert "OpenSSL" not in sys.modules and "cryptography" not in sys.modules
from proxy.commands import Connect, Send, Tls
from proxy.events import Connected, Received
from tests.unit.stream_bench import Bench, Script, certificate, free_port
ca = certificate("CA", ca=True)
own = certificate("server", ca, names=("server.lab",))
bench = Bench(Path(tempfile.mkdtemp()))
device = Script(lambda event: [Send(event.channel, b"hello")] if isinstance(event, Received) else [])
client = Script(lambda event: [Send(event.channel, b"hi")] if isinstance(event, Connected) else [])
port = free_port()
bench.driver.listen_stream(("here",), device, "127.0.0.1", port, Tls("", ca.certificate, own.certificate, own.key))
bench.driver.open_for_devices(("here",))
tls = Tls("server.lab", ca.certificate, own.certificate, own.key)
bench.driver.run([Connect(("there",), client, "127.0.0.1", port, 3.0, tls)])
print(bench.until(lambda: client.of(Received))[0].data.decode())
bench.close()
"""


def test_the_reactor_comes_without_openssl_and_streams_have_tls_all_the_same() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("hello\n", 0), done.stderr[-2000:]
