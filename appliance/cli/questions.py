"""Questions to a person, who may have answered them with options. Without a terminal only the options count."""

import sys
from collections.abc import Callable
from pathlib import Path

import click

from appliance.cli.common import Failed

LARGEST = 4096


def is_a_person() -> bool:
    """Whether somebody can be asked: standard input is a terminal."""
    return sys.stdin is not None and sys.stdin.isatty()


class Questions:
    """`interactive`: there is a person to ask."""

    def __init__(self, interactive: bool) -> None:
        self._interactive = interactive

    def text(
        self,
        option: str,
        given: str | None,
        question: str,
        default: str | None = None,
        refusal: Callable[[str], str] = lambda text: "",
    ) -> str:
        """What was given, what is answered, or the default. A person is asked again while `refusal` says why it cannot
        be that. Raises Failed.
        """
        if given is not None:
            return given
        if self._interactive:
            while why := refusal(typed := str(click.prompt(question, default=default, err=True))):
                click.echo(f"{typed}: {why}", err=True)
            return typed
        return self._default(option, question, default)

    def choice(
        self, option: str, given: str | None, question: str, choices: list[str], default: str | None = None
    ) -> str:
        """As `text`, one of `choices`."""
        if given is not None:
            return given
        if self._interactive:
            return str(click.prompt(question, default=default, type=click.Choice(choices), err=True))
        return self._default(option, question, default)

    def secret(self, option: str, file: Path | None, question: str) -> bytes:
        """What is in the file, or what is typed unseen. Raises Failed."""
        if file is not None:
            return secret_from(file, option)
        if self._interactive:
            return str(click.prompt(question, hide_input=True, err=True)).encode()
        return self._default(option, question, None).encode()

    def perhaps_secret(self, question: str) -> str:
        """What is typed unseen, twice; "" for nothing."""
        if not self._interactive:
            return ""
        typed = click.prompt(question, hide_input=True, default="", show_default=False, err=True)
        if typed and click.prompt("Once more", hide_input=True, default="", show_default=False, err=True) != typed:
            raise Failed("the two codes are not the same; run it again")
        return str(typed)

    def _default(self, option: str, question: str, default: str | None) -> str:
        if default is None:
            said = question[0].lower() + question[1:]
            raise Failed(f"{said}: not given, and standard input is no terminal; add {option}", 2)
        return default


def secret_from(file: Path, option: str) -> bytes:
    """The secret in a file, or on a line of standard input for "-". Raises Failed."""
    try:
        if str(file) == "-" and sys.stdin is not None:
            content = sys.stdin.buffer.readline(LARGEST + 1)
        else:
            with file.open("rb") as stream:
                content = stream.read(LARGEST + 1)
    except OSError as problem:
        raise Failed(f"{option} {file} cannot be read ({problem.strerror}); name another file") from None
    content = content.removesuffix(b"\n").removesuffix(b"\r")
    if not content.strip() or len(content) > LARGEST:
        raise Failed(f"{option} {file} is empty or too long; write the secret alone into it", 2)
    return content
