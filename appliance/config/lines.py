"""Finds the line on which each key of a TOML document stands, and lets inline tables run over several lines.

tomllib tells no lines, and reads TOML 1.0, in which `{ ... }` must stand on one line; TOML 1.1 has lifted that, and our
documented example uses it. The scanner knows only as much of TOML as it takes to step over values, and judges nothing:
that is tomllib's work. A path is a tuple of keys and array indexes, such as ("listen", 0, "clients", 1, "network").
What the scanner cannot follow it leaves out; a line asked for is then that of the nearest enclosing key.
"""

import re
import tomllib
from bisect import bisect_right
from contextlib import suppress

Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:\\.|[^"\\\n])*"|'[^'\n]*'""")
_STRING = re.compile(
    r'''"""(?:\\.|[^\\])*?""""{0,2}|"(?:\\.|[^"\\\n])*"|\'\'\'.*?\'\'\'\'{0,2}|'[^'\n]*\'''',
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}\n#]+")


class Lines:
    """The lines of a document's keys."""

    def __init__(self, found: dict[Path, int]) -> None:
        self._found = found

    def of(self, path: Path) -> int:
        """The line of `path`, or of the nearest thing around it; 1 when there is none."""
        while path:
            if path in self._found:
                return self._found[path]
            path = path[:-1]
        return 1


def scan(text: str) -> tuple[Lines, str]:
    """The lines of a document whose line breaks are "\\n", and the document as TOML 1.0. Takes any text.

    In the second, line breaks, comments and last commas of inline tables are blanks, so that every offset stays.
    """
    scanner = _Scanner(text)
    with suppress(_Lost, RecursionError):  # what was found so far still serves
        scanner.document()
    letters = list(text)
    for start, end in scanner.blanks:
        letters[start:end] = " " * (end - start)
    return Lines(scanner.found), "".join(letters)


class _Lost(Exception):
    """The text is not what the scanner expected."""


class _Scanner:
    def __init__(self, text: str) -> None:
        self.found: dict[Path, int] = {}
        self.blanks: list[tuple[int, int]] = []
        self._text = text
        self._at = 0
        self._breaks = [match.start() for match in re.finditer("\n", text)]
        self._base: Path = ()
        self._last_index: dict[Path, int] = {}

    def document(self) -> None:
        while True:
            self._skip(_BLANK)
            if self._at >= len(self._text):
                return
            if self._take("[["):
                self._table(array=True)
            elif self._take("["):
                self._table(array=False)
            else:
                self._pair(self._base)

    def _table(self, array: bool) -> None:
        line = self._line()
        keys = self._keys()
        path = self._resolve((), keys[:-1])
        if array:
            whole = (*path, keys[-1])
            self._last_index[whole] = self._last_index.get(whole, -1) + 1
            self._base = (*whole, self._last_index[whole])
        else:
            self._base = self._resolve(path, keys[-1:])
        self._note(self._base, line)
        self._expect("]]" if array else "]")

    def _resolve(self, path: Path, keys: list[str]) -> Path:
        """Follow `keys` from `path`, into the latest element of every array of tables on the way."""
        for key in keys:
            path = (*path, key)
            if path in self._last_index:
                path = (*path, self._last_index[path])
        return path

    def _pair(self, base: Path) -> None:
        line = self._line()
        path = (*base, *self._keys())
        self._note(path, line)
        self._expect("=")
        self._skip(_SPACE)
        self._value(path)

    def _value(self, path: Path) -> None:
        if self._take("["):
            self._array(path)
        elif self._take("{"):
            self._inline_table(path)
        elif string := _STRING.match(self._text, self._at):
            self._at = string.end()
        elif scalar := _SCALAR.match(self._text, self._at):
            self._at = scalar.end()
        else:
            raise _Lost

    def _array(self, path: Path) -> None:
        index = 0
        while True:
            self._skip(_BLANK)
            if self._take("]"):
                return
            self._note((*path, index), self._line())
            self._value((*path, index))
            index += 1
            self._skip(_BLANK)
            self._take(",")

    def _inline_table(self, path: Path) -> None:
        blanks: list[tuple[int, int]] = []
        while True:
            start = self._at
            self._skip(_BLANK)
            blanks.append((start, self._at))
            if self._take("}"):
                self.blanks += [blank for blank in blanks if blank[0] < blank[1]]
                return
            self._pair(path)
            start = self._at
            self._skip(_BLANK)
            blanks.append((start, self._at))
            comma = self._at
            if self._take(","):
                start = self._at
                self._skip(_BLANK)
                last = self._text.startswith("}", self._at)
                blanks.append((comma if last else start, self._at))

    def _keys(self) -> list[str]:
        keys: list[str] = []
        while True:
            self._skip(_SPACE)
            match = _KEY.match(self._text, self._at)
            if match is None:
                raise _Lost
            self._at = match.end()
            keys.append(_unquoted(match.group()))
            self._skip(_SPACE)
            if not self._take("."):
                return keys

    def _note(self, path: Path, line: int) -> None:
        """Remember a key, and the tables that a dotted name implies, where they are first met."""
        for length in range(1, len(path) + 1):
            self.found.setdefault(path[:length], line)

    def _line(self) -> int:
        return bisect_right(self._breaks, self._at - 1) + 1

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        if match is not None:
            self._at = match.end()

    def _take(self, token: str) -> bool:
        if self._text.startswith(token, self._at):
            self._at += len(token)
            return True
        return False

    def _expect(self, token: str) -> None:
        self._skip(_SPACE)
        if not self._take(token):
            raise _Lost


def _unquoted(key: str) -> str:
    if key[0] not in "\"'":
        return key
    try:
        return str(tomllib.loads(f"key = {key}")["key"])
    except ValueError:
        raise _Lost from None
