"""Who is let in while OFFLINE: the table of `offline-mode.md`, row by row, over the wire."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.e2e.line import Line
from tests.peers import wire
from tests.peers.copier import Answer, Copier
from tests.peers.waiting import eventually

NOT_AVAILABLE = "this method is not available offline"


def _refusal(answer: Answer | None) -> str:
    assert answer is not None, "silence"
    assert answer.kind == "reject"
    return answer.words.lower()


def test_a_username_with_a_password_is_refused_with_words(make_line: Callable[..., Line]) -> None:
    """Not a swipe card: Access-Reject and why. So is a name alone, a card with a password, and CHAP."""
    line = make_line()
    line.go_offline()
    assert NOT_AVAILABLE in _refusal(line.copier.swipe("ada", password=b"secret"))
    assert NOT_AVAILABLE in _refusal(line.copier.swipe("ada"))
    assert NOT_AVAILABLE in _refusal(line.copier.swipe("0A1B2C3D", password=b"1234"))
    chap = wire.attribute(3, b"\x01" + bytes(16)) + wire.attribute(60, bytes(16))
    assert NOT_AVAILABLE in _refusal(line.copier.swipe("0A1B2C3D", extra=chap))


def test_an_empty_password_is_a_swipe_card(make_line: Callable[..., Line]) -> None:
    """Copiers that always send User-Password send it empty with a card."""
    line = make_line()
    line.go_offline()
    answer = line.copier.swipe("0A1B2C3D", password=b"")
    assert answer is not None
    assert answer.kind == "accept"


def test_a_password_is_ignored_where_the_client_is_set_so(make_line: Callable[..., Line]) -> None:
    """`ignore_password_offline = true`: a card number with a password that nobody can check is a card."""
    line = make_line(client={"ignore_password_offline": True})
    line.go_offline()
    answer = line.copier.swipe("0A1B2C3D", password=b"0A1B2C3D")
    assert answer is not None
    assert answer.kind == "accept"


@pytest.mark.parametrize("what", ["eap", "framed", "administrative", "nas-prompt", "call-check", "ethernet", "802.11"])
def test_what_is_no_person_at_a_copier_is_met_with_silence(what: str, make_line: Callable[..., Line]) -> None:
    """Switches and routers at the same server must not be let in by a copier's offline mode."""
    marks = {
        "eap": wire.attribute(wire.EAP_MESSAGE, b"\x02\x00\x00\x0d\x010A1B2C3D"),
        "framed": wire.attribute(wire.SERVICE_TYPE, 2),
        "administrative": wire.attribute(wire.SERVICE_TYPE, 6),
        "nas-prompt": wire.attribute(wire.SERVICE_TYPE, 7),
        "call-check": wire.attribute(wire.SERVICE_TYPE, 10),
        "ethernet": wire.attribute(wire.NAS_PORT_TYPE, 15),
        "802.11": wire.attribute(wire.NAS_PORT_TYPE, 19),
    }
    line = make_line(offline={"delay": "0s"})
    line.go_offline()
    assert line.copier.swipe("0A1B2C3D", extra=marks[what], wait=1.0) is None
    assert line.copier.swipe("0A1B2C3D") is not None


def test_a_client_that_is_no_copier_is_never_granted(make_line: Callable[..., Line]) -> None:
    """Another `role` is relayed while ONLINE and met with silence while OFFLINE."""
    line = make_line(client={"role": "switch"}, offline={"delay": "0s"})
    assert line.copier.swipe("0A1B2C3D") is not None
    line.go_offline()
    assert line.copier.swipe("0A1B2C3D", wait=1.0) is None


def test_offline_mode_that_is_switched_off_grants_nothing(make_line: Callable[..., Line]) -> None:
    """`offline.enabled = false`: silence as in GRACE; jobs are kept all the same."""
    line = make_line(offline={"delay": "0s", "enabled": False})
    line.server.kill()
    line.locum.wait_for_state("offline", "grace")
    assert line.copier.swipe("0A1B2C3D", wait=1.5, resend_every=0.5) is None
    line.shift.job("s1")


def test_known_cards_only(make_line: Callable[..., Line]) -> None:
    """`admission = "known-cards"`: a card that the server granted before, and no other."""
    line = make_line(cards={"0A1B2C3D": "Welcome"}, offline={"delay": "0s", "admission": "known-cards"})
    answer = line.copier.swipe("0A1B2C3D")
    assert answer is not None
    assert answer.kind == "accept"
    eventually(lambda: line.locum.query("SELECT card FROM cards"), 3, "the card is remembered")
    line.go_offline()
    answer = line.copier.swipe("0a1b2c3d")
    assert answer is not None
    assert answer.kind == "accept", "case does not matter"
    _refusal(line.copier.swipe("FEED0001"))


def test_a_card_that_the_server_refused_last_stays_refused(make_line: Callable[..., Line]) -> None:
    """`refuse_known_bad`: the server's last word on a card counts."""
    line = make_line(cards={"0BAD0BAD": None}, offline={"delay": "0s"})
    _refusal(line.copier.swipe("0BAD0BAD"))
    eventually(lambda: line.locum.query("SELECT card FROM cards"), 3, "the refusal is remembered")
    line.go_offline()
    _refusal(line.copier.swipe("0BAD0BAD"))
    answer = line.copier.swipe("0A1B2C3D")
    assert answer is not None
    assert answer.kind == "accept"


def test_the_card_pattern_decides_what_a_card_is(make_line: Callable[..., Line]) -> None:
    """`card_pattern`: eight digits here."""
    line = make_line(offline={"delay": "0s", "card_pattern": "^[0-9]{8}$"})
    line.go_offline()
    answer = line.copier.swipe("12345678")
    assert answer is not None
    assert answer.kind == "accept"
    assert NOT_AVAILABLE in _refusal(line.copier.swipe("0A1B2C3D"))


def test_offline_grants_are_ledgered_before_they_are_told(make_line: Callable[..., Line]) -> None:
    """Whoever has an Accept in hand stands in the ledger, by whom decided, with the card kept apart."""
    line = make_line()
    line.go_offline()
    for number in range(5):
        assert line.copier.swipe(f"FEED{number:04d}") is not None
        rows = line.locum.query(
            "SELECT outcome, decided_by, card FROM logins_full WHERE decided_by = 'locum' ORDER BY seq"
        )
        assert [tuple(row) for row in rows][-1] == ("granted", "locum", f"FEED{number:04d}")


def test_the_device_is_known_by_its_nas_identifier(
    make_line: Callable[..., Line], make_copier: Callable[..., Copier]
) -> None:
    """NAS-Identifier, else NAS-IP-Address, else the source address."""
    line = make_line()
    address = wire.attribute(wire.NAS_IP_ADDRESS, bytes((10, 7, 0, 31)))
    request = wire.access_request(line.copier.secret, 200, wire.attribute(wire.USER_NAME, "0A1B2C3D") + address)
    bare = wire.access_request(line.copier.secret, 201, wire.attribute(wire.USER_NAME, "0A1B2C3D"))
    assert line.copier.swipe("0A1B2C3D")
    for each in (request, bare):
        assert line.copier.auth.exchange(each, line.copier.secret, 3.0, None)

    def devices() -> set[str]:
        return {row["device"] for row in line.locum.query("SELECT device FROM logins")}

    eventually(lambda: devices() == {"copier-1", "10.7.0.31", "127.0.0.1"}, 3, "three devices are told apart")
