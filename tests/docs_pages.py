"""Reads the pages of the documentation: their sections, tables, examples, and what stands in backticks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS.glob("*.md")])


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced example: its page, the line of its fence, its language."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@cache
def text_of(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def names() -> list[str]:
    return [str(page.relative_to(ROOT)) for page in PAGES]


def blocks(*languages: str) -> list[Block]:
    """All examples in these languages, on all pages."""
    found = []
    for name in names():
        page = text_of(name)
        for match in re.finditer(r"^( *)```(\w*)\n(.*?)^\1```$", page, re.DOTALL | re.MULTILINE):
            if match[2] in languages:
                text = re.sub(f"^{match[1]}", "", match[3], flags=re.MULTILINE)
                found.append(Block(name, page.count("\n", 0, match.start()) + 1, match[2], text))
    return found


def without_examples(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)


@cache
def sections(name: str) -> dict[str, str]:
    """The text under each heading, by the heading without backticks, up to the next heading of any level."""
    parts = re.split(r"^#{1,4} (.*)$", without_examples(text_of(name)), flags=re.MULTILINE)
    return {title.replace("`", ""): text for title, text in zip(parts[1::2], parts[2::2], strict=True)}


def rows(text: str) -> list[list[str]]:
    """The cells of every row of the tables in a text, heads included."""
    found = []
    for line in text.splitlines():
        if line.startswith("|") and not set(line) <= set("|- "):
            found.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return found


def code(text: str) -> set[str]:
    """What stands in backticks."""
    return set(re.findall(r"`([^`\n]+)`", text))


def command_lines(block: Block) -> Iterator[list[str]]:
    """The words of each command of a shell example."""
    for line in block.text.replace("\\\n", " ").splitlines():
        if block.language == "console":
            if not line.startswith("# "):
                continue
            line = line.removeprefix("# ")
        for part in re.split(r"\s(?:&&|\|)\s", line):
            words = shlex.split(part, comments=True)
            if words:
                yield words
