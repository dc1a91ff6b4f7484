"""The registry of dialects: ours by name, others by the entry-point group `locum.dialects`."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.dialects import OURS, dialect


@pytest.fixture(autouse=True)
def _forgets() -> Iterator[None]:
    dialect.cache_clear()
    yield
    dialect.cache_clear()


@pytest.mark.parametrize("name", OURS)
def test_our_dialects_are_found_by_name(name: str) -> None:
    assert dialect(name).name == name


def test_only_a_server_that_cannot_recognise_a_repeat_leaves_records_in_doubt() -> None:
    assert {name for name in OURS if not dialect(name).repeats_are_known} == {"papercut"}


def test_another_distribution_brings_a_dialect_by_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "faxline.py").write_text("class Faxline:\n    name = 'faxline'\n\n\nDIALECT = Faxline()\n")
    about = tmp_path / "faxline-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: faxline\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[locum.dialects]\nfaxline = faxline:DIALECT\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        assert dialect("faxline").name == "faxline"
    finally:
        sys.modules.pop("faxline", None)


def test_a_dialect_that_nobody_brings_is_a_lookup_error_with_its_name() -> None:
    with pytest.raises(LookupError, match="no dialect 'telex' is installed"):
        dialect("telex")
