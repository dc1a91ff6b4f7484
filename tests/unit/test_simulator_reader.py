"""`locum simulate reader`: a reader that listens or connects, as a person sees it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from appliance.simulator.reader import PROMPT, Reader
from tests.peers.ports import LOOPBACK, free_port
from tests.peers.reader import Desk
from tests.peers.skips import ROOT


def test_a_reader_shows_what_it_is_told() -> None:
    said: list[str] = []
    reader = Reader(said.append)
    assert reader.told(b"\rb\r\nwelcome e") == b""
    assert said == ["beep"]
    reader.pause()
    assert reader.told(b"v\r") == b"locum simulate reader\r"
    reader.told(b"rfid:beep.now=2\r")
    assert said == ["beep", "error"]


def test_a_reader_of_rf_ideas_has_a_prompt_and_lights() -> None:
    said: list[str] = []
    reader = Reader(said.append, rfideas=True)
    assert reader.told(b"\rRFID:out.led=2\rrfid:beep.now=2\r") == PROMPT * 3
    assert said == ["light: green", "2 beep(s)"]


@pytest.mark.parametrize("connects", [False, True])
def test_the_command_swipes_cards(connects: bool) -> None:
    desk = Desk({"0042"}, connects=not connects)
    if not connects:
        desk.port = free_port()
    desk.start()
    try:
        option = "--connect" if connects else "--listen"
        command = [sys.executable, "-m", "appliance", "simulate", "reader", option, f"{LOOPBACK[4]}:{desk.port}"]
        command += ["--pause", "0.5", "0042", "9999"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)
    finally:
        desk.stop()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["connected", "beep", "error"]
    assert desk.cards == ["0042", "9999"]


def test_without_an_end_to_connect_it_says_what_is_missing() -> None:
    command = [sys.executable, "-m", "appliance", "simulate", "reader"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert "give either --listen" in done.stderr
