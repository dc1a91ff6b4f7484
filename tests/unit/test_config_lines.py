"""The scanner finds the line of every key, and steps over every kind of value."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config.lines import scan

DOCUMENT = '''\
# a comment
top = 1
"quoted key" = "a = b # no"
a.b.c = [ 1, # one
  [2, 3],
  { d = """two
lines " "" """, e = 'x' } ]
[table]   # c
text = \'\'\'
[not.a.table]
x = 1\'\'\'
when = 1979-05-27T07:32:00Z
[[list]]
k = { p = 1, q = { r = 2 } }
[list.sub]
s = 1
[[list]]
k = 2
[[list.inner]]
t = 1
[ table . "deep er" ]
u = 1
'''

LINES = {
    ("top",): 2,
    ("quoted key",): 3,
    ("a",): 4,
    ("a", "b", "c", 1): 5,
    ("a", "b", "c", 1, 0): 5,
    ("a", "b", "c", 2, "d"): 6,
    ("a", "b", "c", 2, "e"): 7,
    ("table",): 8,
    ("table", "text"): 9,
    ("table", "when"): 12,
    ("list", 0, "k", "q", "r"): 14,
    ("list", 0, "sub", "s"): 16,
    ("list", 1): 17,
    ("list", 1, "k"): 18,
    ("list", 1, "inner", 0, "t"): 20,
    ("table", "deep er", "u"): 22,
    ("table", "not there", 3): 8,
    ("nowhere",): 1,
}


@pytest.mark.parametrize("path", LINES)
def test_the_line_of_a_key_is_found(path: tuple[str | int, ...]) -> None:
    lines, plain = scan(DOCUMENT)
    assert lines.of(path) == LINES[path]
    assert plain == DOCUMENT


def test_an_inline_table_may_run_over_lines() -> None:
    text = 'a = { # why\n b = "#",\n\n c = [1,\n2], # last\n}\nd = 1'
    lines, plain = scan(text)
    assert tomllib.loads(plain) == {"a": {"b": "#", "c": [1, 2]}, "d": 1}
    assert len(plain) == len(text)
    assert [lines.of(path) for path in (("a", "b"), ("a", "c"), ("a", "c", 1), ("d",))] == [2, 4, 5, 7]


def paths(value: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, part in inner for path in [(*at, key), *paths(part, (*at, key))]]


def written(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{written(key)} = {written(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[\n" + ",\n".join(written(part) for part in value) + "]"
    if isinstance(value, str):
        return (
            '"'
            + "".join(f"\\U{ord(letter):08x}" if letter in '\\"' or letter < " " else letter for letter in value)
            + '"'
        )
    return str(value)


texts = st.text(st.characters(codec="utf-8", exclude_characters="\x7f"), max_size=5)
values = st.recursive(
    st.integers(0, 99) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(texts, values, max_size=4))
def test_every_key_of_any_document_has_its_line(document: dict[str, Any]) -> None:
    text = "".join(f"{written(key)} = {written(value)}\n" for key, value in document.items())
    assert tomllib.loads(text) == document
    lines, _ = scan(text)
    known = [lines.of(path) for path in paths(document)]
    assert known == sorted(known)
    for path in paths(document):
        if isinstance(path[-1], str):
            assert written(path[-1]) in text.split("\n")[lines.of(path) - 1]


@given(st.text("[]{}\"'=,.#\n\\ab1 ", max_size=60))
def test_any_text_is_scanned_without_an_error(text: str) -> None:
    _, plain = scan(text)
    assert len(plain) == len(text)
