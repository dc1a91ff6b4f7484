"""Drills in the flow tests: begun, and what is seen of them."""

from __future__ import annotations

from proxy.link import State
from tests.flows.house import House

CARD = "0A1B2C3D"
EDUCATION = {"environment": "education"}


def drill(house: House, device: str | None = "copier-1", seconds: float = 1800, reason: str = "autumn test") -> None:
    """`locum drill start`; the devices must have been heard."""
    house.hand("drill-start", device=device, seconds=seconds, reason=reason)


def hear(house: House, *devices: str) -> None:
    for device in devices:
        house.swipe(CARD, device=device)
    house.to_devices.clear()
    house.to_server.clear()


def with_drill(house: House) -> House:
    """A drill runs on copier-1; copier-2 was heard too."""
    hear(house, "copier-1", "copier-2")
    drill(house)
    return house


def words(house: House, device: str = "copier-1", name: str = CARD) -> str:
    return house.line(house.swipe(name, device=device))


def shown(house: House, device: str = "copier-1") -> str:
    return house.site.shown(device, house.upstream)


def standing(house: House) -> list[tuple[str, str]]:
    """Each job's mode and where it stands."""
    return [
        (mode, state or "delivered")
        for mode, state in house.rows(
            "SELECT jobs.mode, state FROM jobs LEFT JOIN outbox USING (seq) ORDER BY jobs.seq"
        )
    ]


def steps(house: House) -> list[tuple[str, str, str, str]]:
    return house.rows("SELECT device, did, reason, who FROM drills ORDER BY seq")


def come_back(house: House) -> None:
    house.server_up = True
    house.until(State.ONLINE)
