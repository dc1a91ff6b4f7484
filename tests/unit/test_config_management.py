"""[snmp.agent], [snmp.proxy] and [snmp.traps]: what they become, and what is refused with which words."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from appliance.check import management
from appliance.check.findings import Level
from appliance.config import ManagementConfig, SnmpAgentConfig, SnmpProxyConfig, SnmpTrapsConfig
from proxy.metering.agents import User
from proxy.snmp.settings import Access, ProxySettings, TrapSettings
from tests.unit.configs import SMALL, loaded
from tests.unit.test_config_dialects import problems

USER = 'user = "monitor"\nauth_key = "authkey-of-monitor"\npriv_key = "privkey-of-monitor"\n'
AGENT = f'[snmp.agent]\nbind = "127.0.0.1"\n{USER}notify = "10.0.0.9:162"\n'
PROXY = (
    f'[snmp.proxy]\n{USER}max_age = "1m"\nwhen_silent = "nothing"\ncopiers = [{{ device = "OLD-1", port = 16101 }}]\n'
)
DEVICE = '[[device]]\nid = "OLD-1"\nsnmp = { address = "10.7.0.31", version = "1", community = "old" }\n'
TRAPS = '[snmp.traps]\nserver = "10.0.0.5:162"\nupstream = "hq"\ncommunity = "old"\nmost = 50\n'
MONITOR = User("monitor", "sha256", b"authkey-of-monitor", "aes128", b"privkey-of-monitor")


def test_all_three(tmp_path: Path) -> None:
    found = loaded(tmp_path, SMALL + DEVICE + AGENT + PROXY + TRAPS).management
    access = Access((MONITOR,))
    assert found == ManagementConfig(
        SnmpAgentConfig("127.0.0.1", 161, access, (("10.0.0.9", 162),)),
        SnmpProxyConfig(access, ProxySettings(60.0, False, False), (("OLD-1", "0.0.0.0", 16101),)),
        SnmpTrapsConfig("0.0.0.0", 162, "hq", TrapSettings("10.0.0.5", 162, (b"old",), 50)),
    )


def test_without_them_there_is_none(tmp_path: Path) -> None:
    assert loaded(tmp_path, SMALL).management == ManagementConfig()


def test_no_key_is_shown_when_a_config_is_printed(tmp_path: Path) -> None:
    shown = repr(loaded(tmp_path, SMALL + DEVICE + AGENT + PROXY + TRAPS))
    assert "monitor'" in shown
    assert not any(secret in shown for secret in ("authkey", "privkey", "b'old'"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[snmp.agent]\nport = 1161\n", "nobody may ask"),
        (AGENT.replace("authkey-of-monitor", "short"), "auth_key has fewer than 8 characters"),
        (AGENT + 'auth = "sha1"\n', 'auth must be "sha224"'),
        (AGENT + 'priv = "des"\n', 'priv must be "aes128"'),
        (AGENT + 'notify_version = "2c"\n', "notifications by SNMPv2c need a community"),
        ('[snmp.agent]\ncommunity = "c"\nnotify = ["10.0.0.9:162"]\n', "notifications by SNMPv3 need a user"),
        (PROXY, 'device "OLD-1" has no SNMP settings'),
        (DEVICE + PROXY + AGENT + "port = 16101\n", "port 16101 stands twice"),
        (TRAPS.replace('"hq"', '"hk"'), 'did you mean "hq"?'),
        (TRAPS.replace("10.0.0.5:162", "10.0.0.5"), "not an address with its port"),
        (TRAPS + "most_traps = 3\n", "unknown key"),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, text: str, said: str) -> None:
    found = [words for _, words in problems(tmp_path, SMALL + text)]
    assert len(found) == 1, found
    assert said in found[0]
    assert not any(secret in found[0] for secret in ("authkey", "privkey"))


def test_check_tries_the_ports_and_names_what_is_in_the_clear(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        text = AGENT.replace("bind", f"port = {port}\nbind") + 'community = "watch"\n'
        found = list(management.findings(loaded(tmp_path, SMALL + text), None))
    assert [(each.what, each.level) for each in found] == [
        (f"SNMP 127.0.0.1 port {port}", Level.ERROR),
        ("[snmp.agent]", Level.WARNING),
    ]
