"""What real copiers answered, served by snmpsim over UDP: what Locum makes of each, beside what others make of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.peers.agents import read_meters
from tests.peers.skips import need_shared_data
from tests.peers.snmpsim import SnmpSim, recordings, serve

WANTED: dict[str, tuple[str, str, dict[str, int]]] = {
    # maker, a part of the model, meters
    "brother_hl5370dw": ("Brother", "HL-5370DW", {"total": 7792}),
    "brother-dcp-9020cdw": ("Brother", "DCP-9020CDW", {"total": 4939, "color": 3177, "mono": 1762}),
    "brother-dcp-1618w": ("Brother", "DCP-1618W", {"total": 3914}),
    "brother-hl-5350dn": ("Brother", "HL-5350DN", {"total": 69411}),
    "brother-hl-2270dw": ("Brother", "HL-2270DW", {"total": 4191}),
    "brother-mfc-5490cn": ("Brother", "MFC-5490CN", {"total": 8989}),
    "brother-incomplete": ("Brother", "DCP-L3550CDW", {}),
    "walk-brother": ("Brother", "HL-L8260CDW", {"total": 42976}),
    "canonprinter_d1180": ("Canon", "D1180/MF6680", {}),
    "canonprinter_tm": ("Canon", "TM-5300", {"total": 21588}),
    "dell-laser_mfp": ("Dell", "Dell MFP Laser 3115cn", {}),
    "dell-laser_s5830dn": ("Dell", "S5830dn", {}),
    "developprinter": ("Develop", "ineo 280", {}),
    "epson": ("Epson", "WF-C5790BA", {}),
    "walk-epson_sc": ("Epson", "SC-T3405", {"total": 145}),
    "fujifilmprinter_c810": ("Xerox", "ApeosPro C810", {}),
    "gestetner": ("Ricoh", "MPC2500/DSc525", {}),
    "hp-m451dn_43": ("", "", {"total": 2039}),
    "infotec-isc2432_partial": ("Ricoh", "ISC 2432", {}),
    "jetdirect": ("HP", "Color LaserJet M452nw", {}),
    "jetdirect_m130nw": ("HP", "LaserJet MFP M130nw", {"total": 15232, "mono": 15232, "color": 0, "scan": 1190}),
    "konica": ("Konica Minolta", "ineo+ 280", {}),
    "konica_c250i": (
        "Konica Minolta", "bizhub C250i", {"total": 33810, "color": 7255, "copy": 4216, "print": 29587, "scan": 5653},
    ),
    "kyocera": ("Kyocera", "FS-1028MFP", {}),
    "walk-kyocera_p2040": ("Kyocera", "ECOSYS P2040dw", {"total": 7342}),
    "kyocera-taskalfa6052ci": (
        "Kyocera", "TASKalfa 6052ci",
        {"total": 424405, "color": 182867, "print": 304339, "copy": 116254, "fax": 3812, "scan": 88636},
    ),
    "lexmarkprinter": ("Lexmark", "T640", {}),
    "nrg": ("Ricoh", "SP 4210N", {}),
    "okilan": ("OKI", "MC342", {}),
    "okilan_9450g": ("OKI", "MC873", {}),
    "ricoh": ("Ricoh", "MP 3053", {}),
    "samsungprinter_clx": ("Samsung", "CLX-3170", {}),
    "samsungprinter_m4080fx": ("Samsung", "M408x", {"total": 22934}),
    "sharp": (
        "Sharp", "MX-3570N", {"total": 121104, "color": 29940, "print": 82214, "copy": 38804, "scan": 13540},
    ),
    "toshiba-tec_estudio305": ("Lexmark", "e-STUDIO305CS", {}),
    "toshiba-tec_ev4": ("Toshiba", "B-EV4", {}),
    "xerox": ("Xerox", "AltaLink C8045", {}),
    "xerox_color": ("Xerox", "Color 570", {}),
    "xerox_phaser": ("Xerox", "Phaser 4600", {}),
    "zebra": ("Zebra", "ZebraNet", {}),
}  # fmt: skip
"""By recording; no meters: the recording has no page counter at all, and none is made up."""

SHOWN = ("total", "color", "copy", "print", "fax", "scan")


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SnmpSim]:
    sim = serve(tmp_path_factory.mktemp("snmp") / "data", recordings())
    yield sim
    sim.stop()


@pytest.fixture(scope="module")
def read(simulated: SnmpSim) -> dict[str, dict[str, Any]]:
    agents = [
        {"name": name, "port": simulated.port, "version": 2, "community": name, "timeout": 4.0} for name in recordings()
    ]
    found: dict[str, dict[str, Any]] = read_meters(agents)["results"]
    return found


def test_the_table_of_brands(read: dict[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():  # it is to be seen whenever this runs
        print()
        print(f"{'recording':28}{'maker':16}{'model':30}" + "".join(f"{name:>9}" for name in SHOWN))
        for name, told in sorted(read.items()):
            figures = "".join(f"{told.get('meters', {}).get(each, '-'):>9}" for each in SHOWN)
            print(f"{name:28}{told.get('vendor', '?'):16}{told.get('model', told.get('why', ''))[:29]:30}{figures}")
    assert read.keys() >= WANTED.keys()
    for name, (vendor, model, meters) in WANTED.items():
        told = read[name]
        assert (name, told.get("vendor")) == (name, vendor)
        assert model in told["model"], name
        shown = {key: value for key, value in told["meters"].items() if not key.endswith("_color")}
        assert (name, shown) == (name, meters)


def test_one_request_is_enough_for_a_reading_in_daily_use(read: dict[str, dict[str, Any]]) -> None:
    assert max(told["objects"] for told in read.values()) <= 24


def test_an_independent_reader_makes_the_same_of_the_same_recordings(read: dict[str, dict[str, Any]]) -> None:
    life, seen = ".1.3.6.1.2.1.43.10.2.1.4.1.1", 0
    for file in sorted((need_shared_data() / "snmp" / "librenms-expected").glob("*.json")):
        told = json.loads(file.read_text("utf-8"))
        device = told["os"]["discovery"]["devices"][0]
        counters = {
            sensor["sensor_oid"]: int(sensor["sensor_current"])
            for sensor in told["sensors"]["discovery"]["sensors"]
            if sensor["sensor_class"] == "count"
        }
        ours = read[file.stem]
        assert ours["meters"]["total"] == counters[life], file.stem
        if device["serial"]:
            assert ours["serial"] == device["serial"], file.stem
        seen += 1
    assert seen >= 6


def test_version_1_reads_the_same(simulated: SnmpSim, read: dict[str, dict[str, Any]]) -> None:
    names = ["kyocera-taskalfa6052ci", "sharp", "brother-dcp-9020cdw"]
    agents = [{"name": n, "port": simulated.port, "version": 1, "community": n, "timeout": 4.0} for n in names]
    found = read_meters(agents)["results"]
    assert {name: told["meters"] for name, told in found.items()} == {name: read[name]["meters"] for name in names}
