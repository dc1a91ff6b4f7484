"""[inline]: where Locum stands between copiers and servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.config import ConfigError, InlineConfig
from tests.unit.configs import SMALL, loaded

ANY = SMALL.replace('bind = "127.0.0.1"', 'bind = "0.0.0.0"')
SIDES = 'copier_side = "eth1"\nserver_side = "eth2"\n'


def inline(folder: Path, lines: str, base: str = ANY) -> InlineConfig | None:
    return loaded(folder, f"{base}\n[inline]\n{lines}\n").inline


def test_without_the_section_locum_does_not_stand_in_line(tmp_path: Path) -> None:
    assert loaded(tmp_path, ANY).inline is None


def test_a_bridge_takes_diverted_flows_on_itself_and_a_router_on_the_copiers_side(tmp_path: Path) -> None:
    bridge = inline(tmp_path, f'mode = "bridge"\n{SIDES}')
    assert bridge == InlineConfig("bridge", "eth1", "eth2", "locum0")
    assert bridge is not None
    assert bridge.device == "locum0"
    router = inline(tmp_path, f'mode = "router"\n{SIDES}')
    assert router is not None
    assert router.device == "eth1"


@pytest.mark.parametrize(
    ("lines", "said"),
    {
        "no mode": (SIDES, "mode"),
        "another mode": (f'mode = "tap"\n{SIDES}', 'mode must be "bridge" or "router"'),
        "one interface twice": ('mode = "bridge"\ncopier_side = "eth1"\nserver_side = "eth1"', "eth1 stands twice"),
        "the bridge is a port": (f'mode = "bridge"\n{SIDES}bridge = "eth1"', "eth1 stands twice"),
        "a router with a bridge": (f'mode = "router"\n{SIDES}bridge = "br0"', "a router has no bridge"),
        "a name with a slash": ('mode = "bridge"\ncopier_side = "a/b"\nserver_side = "eth2"', "network interface"),
        "a name with a quote": ("mode = 'bridge'\ncopier_side = 'a\"b'\nserver_side = 'eth2'", "network interface"),
        "a name too long": (f'mode = "bridge"\ncopier_side = "{"x" * 16}"\nserver_side = "eth2"', "network interface"),
        "a typing mistake": ('mode = "bridge"\ncopiers_side = "eth1"\nserver_side = "eth2"', "copier_side"),
    }.values(),
)
def test_what_cannot_be_is_refused_in_words(tmp_path: Path, lines: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        inline(tmp_path, lines)
    assert said in str(raised.value)


def test_in_line_a_listener_takes_what_is_for_any_address_or_for_its_server(tmp_path: Path) -> None:
    of_the_server = ANY.replace('"0.0.0.0"', '"10.0.0.5"')
    assert [each.bind for each in loaded(tmp_path, f'{of_the_server}\n[inline]\nmode = "bridge"\n{SIDES}').listens] == [
        "10.0.0.5"
    ]
    with pytest.raises(ConfigError, match=r'bind must be "0.0.0.0", "::" or an address of hq, not 127.0.0.1'):
        inline(tmp_path, f'mode = "bridge"\n{SIDES}', SMALL)
