"""Card readers: whether they can be reached, who may speak to them, and the unlock card where one is needed.

A reader takes one connection at a time, so it is not tried while a Locum runs, which has that connection.
"""

import socket
from collections.abc import Iterator

from appliance.check.findings import Finding, error, ok, warning
from appliance.check.reach import place
from appliance.check.running import Running
from appliance.config import Config, ReaderConfig
from appliance.state_dir import UNLOCK_CARD_NAME, StateDirError, unlock_hash

PATIENCE = 2.0


def findings(config: Config, running: Running | None) -> Iterator[Finding]:
    readers = [listen for listen in config.listens if isinstance(listen, ReaderConfig)]
    for reader in readers:
        what = f"reader {reader.device}"
        if not (reader.address if reader.connects else reader.server):
            key, who = ("address", "the reader") if reader.connects else ("server", "the server, and sees card numbers")
            yield warning(what, f"whoever connects to its listen is taken for {who}; set {key}")
        if reader.connects:
            yield _tried(what, "server", reader.server, reader.server_port)
        elif running is None:
            yield _tried(what, "reader", reader.address, reader.reader_port)
    if readers:
        yield from _unlock_card(config, readers)


def _tried(what: str, end: str, address: str, port: int) -> Finding:
    where = place(address, port)
    try:
        socket.create_connection((address, port), PATIENCE).close()
    except TimeoutError:
        return warning(what, f"the {end} at {where} does not answer; is it on, and the address right?")
    except OSError as problem:
        return warning(what, f"the {end} at {where} takes no connection ({problem.strerror}); look at its settings")
    return ok(what, f"the {end} at {where} takes connections")


def _unlock_card(config: Config, readers: list[ReaderConfig]) -> Iterator[Finding]:
    rules = {device.id: device.offline for device in config.devices}
    if all(rules.get(each.device, config.offline).environment == "commercial" for each in readers):
        return
    try:
        is_set = bool(unlock_hash(config.state_dir, UNLOCK_CARD_NAME))
    except StateDirError as problem:
        yield error("unlock card", str(problem))
        return
    if is_set:
        yield ok("unlock card", "is set")
    else:
        text = "none is set, and card readers have no keys for a code; run: locum unlock-code set --card"
        yield warning("unlock card", text)
