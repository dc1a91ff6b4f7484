"""Reads [[reader]]: network card readers, and which of the two sides connects to Locum."""

from typing import Any

from appliance.config import addresses, checks, tables
from appliance.config.lines import Path as KeyPath
from appliance.config.reading import Reader
from appliance.config.values import ReaderConfig

DIALECTS = ("papercut", "terminal")
RFIDEAS = {"auto": None, "plain": False, "rfideas": True}


def reader(reader: Reader, table: dict[str, Any], at: KeyPath, dialects: dict[str, object]) -> ReaderConfig | None:
    """The reader in `table`, or None with what is wrong noted. `dialects` is what each upstream says it speaks."""
    raw = reader.table(tables.CardReader, table, at)
    if raw is None:
        return None
    before = len(reader.problems)
    _upstreams(reader, raw, table, at, dialects)
    listen = checks.checked(reader, addresses.with_port, raw.listen, (*at, "listen"))
    address = checks.checked(reader, addresses.literal, raw.address, (*at, "address")) if raw.address else ""
    server: tuple[str, int] | None = ("", 0)
    if raw.connects:
        if "port" in table:
            reader.problem((*at, "port"), "a reader that connects has no port; remove this line, or connects")
        if raw.server is None:
            text = 'server is missing: a reader that connects must be passed on; add server = "10.0.0.5:7778"'
            reader.problem(at, text)
        else:
            server = checks.checked(reader, addresses.with_port, raw.server, (*at, "server"))
    else:
        for key, example in (("address", '"10.7.0.90"'), ("port", "7778")):
            if key not in table:
                text = f"{key} is missing: Locum connects to the reader; add {key} = {example}, or connects = true"
                reader.problem(at, text)
        if raw.server is not None:
            alone = checks.checked(reader, addresses.literal, raw.server, (*at, "server"))
            server = (alone, 0) if alone is not None else None
    if len(reader.problems) != before or listen is None or address is None or server is None:
        return None
    return ReaderConfig(
        dialect="cardreader",
        bind=listen[0],
        upstream=raw.upstream,
        records_to=raw.records_to or raw.upstream,
        device=raw.device,
        port=listen[1],
        connects=raw.connects,
        address=address,
        reader_port=raw.port or 0,
        server=server[0],
        server_port=server[1],
        session_idle=raw.session_idle.seconds,
        rfideas=RFIDEAS[raw.commands],
    )


def _upstreams(
    reader: Reader, raw: tables.CardReader, table: dict[str, Any], at: KeyPath, dialects: dict[str, object]
) -> None:
    """`upstream` and `records_to` must be there, and servers that people with cards are asked of."""
    for key, name in (("upstream", raw.upstream), ("records_to", raw.records_to or raw.upstream)):
        if key not in table:
            continue
        if name not in dialects:
            known = f"known: {', '.join(dialects)}" if dialects else "there is no [[upstream]]"
            advice = checks.did_you_mean(name, list(dialects), known)
            reader.problem((*at, key), f'{key} names the upstream "{name}", which is not there; {advice}')
        elif dialects[name] in tables.UPSTREAMS and dialects[name] not in DIALECTS:
            text = f'{key} names "{name}", which speaks {dialects[name]}'
            reader.problem((*at, key), f"{text}; name an upstream of dialect papercut or terminal")
