"""Unlock codes: hashed as Argon2id, compared off the reactor's thread."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from threading import get_ident
from typing import Any

import pytest

from proxy.commands import Verify
from proxy.events import Verified
from proxy.net import codes
from proxy.net.codes import hash_code
from tests.unit.stream_bench import Bench, Script

RIGHT = hash_code("482916")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def test_a_hash_is_argon2id_with_19_mebibytes_two_passes_and_a_salt_of_its_own() -> None:
    assert re.fullmatch(r"\$argon2id\$v=19\$m=19456,t=2,p=1\$[\w+/]{22}\$[\w+/]{43}", RIGHT)
    assert hash_code("482916") != RIGHT


def test_right_and_wrong_codes_are_answered_in_order_on_the_reactors_thread(bench: Bench) -> None:
    threads: list[int] = []
    flow = Script(lambda event: threads.append(get_ident()) or [])  # type: ignore[func-returns-value]
    tries = ["482916", "482917", "", "482916", "ü" * 100]
    bench.driver.run([Verify(code, RIGHT, flow, number) for number, code in enumerate(tries)])
    assert flow.seen == []
    bench.until(lambda: len(flow.seen) == len(tries))
    answers = flow.of(Verified)
    assert [event.token for event in answers] == list(range(len(tries)))
    assert [event.right for event in answers] == [True, False, False, True, False]
    assert set(threads) == {get_ident()}


@pytest.mark.parametrize("hashed", ["", "no hash", "$argon2i$v=19$m=8,t=1,p=1$c29tZXNhbHQ$AAAA", "482916"])
def test_what_is_no_hash_fits_no_code(bench: Bench, hashed: str) -> None:
    flow = Script()
    bench.driver.run([Verify("482916", hashed, flow, "t")])
    bench.until(lambda: flow.seen)
    assert [event.right for event in flow.of(Verified)] == [False]


def test_a_code_that_cannot_be_compared_is_logged_without_the_code(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[dict[str, Any]] = []

    class Log:
        def error(self, text: str, **fields: Any) -> None:
            said.append({"text": text, **fields})

    monkeypatch.setattr(codes, "log", Log())
    flow = Script()
    bench.driver.run([Verify("482916", "no hash", flow, "t")])
    bench.until(lambda: flow.seen)
    (line,) = said
    assert "482916" not in str(line)
    assert "no hash" not in str(line)
