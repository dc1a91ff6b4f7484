"""`locum unlock`, `locum lock`, `locum unlock-code`: offline mode where it waits for an adult (environment education).

The code is hashed here, in the command; neither the appliance nor a file ever has it.
"""

import re
import sys
from pathlib import Path

import click

from appliance.cli.common import Failed, appliance_options, devices_option, message_of, say_devices, which_devices
from appliance.cli.questions import is_a_person
from appliance.client import ClientError, ask, is_running
from appliance.state_dir import UNLOCK_CARD_NAME, UNLOCK_CODE_NAME, StateDirError, keep_unlock_hash, unlock_hash

SHORTEST_CODE, LONGEST_CODE = 6, 64
_CARD = re.compile(r"[!-~]{4,64}")
_card_option = click.option("--card", is_flag=True, help="The unlock card of card readers, not the code.")
_WORDS = {"once": "for one session", "until-restored": "until the connection is restored"}


@click.command()
@appliance_options
@devices_option
@click.option("--once", is_flag=True, help="For the next session of the device.")
@click.option("--until-restored", is_flag=True, help="Until the server is back.")
def unlock(state_dir: Path, device: str | None, every: bool, once: bool, until_restored: bool) -> None:
    """Unlock offline mode at a device.

    Does what a person with the code does at the device. It is never held up by wrong codes.

    Example: locum unlock KM-A4F-000123 --once
    """
    name = which_devices(device, every)
    if once == until_restored:
        raise click.UsageError("say for how long: --once or --until-restored")
    scope = "once" if once else "until-restored"
    answer = ask(state_dir, "unlock", device=name, scope=scope)
    say_devices(answer, lambda devices: f"Unlocked {_WORDS[scope]}: {devices}.", "No device was locked.")


@click.command()
@appliance_options
@devices_option
def lock(state_dir: Path, device: str | None, every: bool) -> None:
    """Lock offline mode at a device again.

    A session that is open there goes on to its end.

    Example: locum lock --all
    """
    answer = ask(state_dir, "lock", device=which_devices(device, every))
    say_devices(answer, lambda devices: f"Locked: {devices}.", "No device was unlocked.")


@click.group("unlock-code")
def unlock_code() -> None:
    """The code that unlocks offline mode at the devices.

    Example: locum unlock-code set
    """


@unlock_code.command("set")
@appliance_options
@_card_option
def set_code(state_dir: Path, card: bool) -> None:
    """Set the unlock code, or with --card the unlock card of card readers.

    It is asked for twice; where standard input is no terminal, one line is read from it. A code has at least 6
    characters; of a card its number is given, as the readers have it. Only a hash of it is kept.

    Example: locum unlock-code set
    """
    code = _read_code(card)
    from proxy.net.codes import hash_code

    _keep(state_dir, hash_code(code), card)
    _tell(state_dir, "set", f"The {_what(card)} is set.", card)


@unlock_code.command("clear")
@appliance_options
@_card_option
def clear_code(state_dir: Path, card: bool) -> None:
    """Forget the unlock code, or with --card the unlock card.

    Nobody can unlock a device with it until another is set; what is unlocked stays so.

    Example: locum unlock-code clear
    """
    try:
        was_set = bool(unlock_hash(state_dir, _file(card)))
    except StateDirError:
        was_set = True  # whatever it is, it is no code any more
    if not was_set:
        click.echo(f"No {_what(card)} was set.")
        return
    _keep(state_dir, "", card)
    _tell(state_dir, "cleared", f"The {_what(card)} is forgotten.", card)


@unlock_code.command("allow")
@appliance_options
def allow(state_dir: Path) -> None:
    """Let codes be tried again after too many wrong ones.

    After a hundred wrong codes in one outage every code is refused, until you say otherwise or the outage ends.

    Example: locum unlock-code allow
    """
    answer = ask(state_dir, "unlock-code", changed="allowed")
    click.echo(message_of(answer) or "Codes can be tried again.")


def _what(card: bool) -> str:
    return "unlock card" if card else "unlock code"


def _file(card: bool) -> str:
    return UNLOCK_CARD_NAME if card else UNLOCK_CODE_NAME


def _read_code(card: bool) -> str:
    """The code from a person, asked twice, or from standard input. Raises Failed."""
    if is_a_person():
        asked = "Number of the unlock card" if card else "Unlock code"
        code = click.prompt(asked, hide_input=True, confirmation_prompt="Once more", err=True)
    else:
        try:
            code = (sys.stdin.readline() if sys.stdin is not None else "").removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise Failed("the code on standard input is not UTF-8; write it in UTF-8", 2) from None
    return check_card(code) if card else check_code(code)


def check_card(number: str) -> str:
    """The number of a card as readers' cards are compared. Raises Failed."""
    if not _CARD.fullmatch(number):
        raise Failed("a card number has 4 to 64 characters and no blanks; write it as the reader gives it", 2)
    return number.upper()


def check_code(code: str) -> str:
    """The code, if it is one that can be typed. Raises Failed."""
    if not SHORTEST_CODE <= len(code) <= LONGEST_CODE:
        text = f"an unlock code has {SHORTEST_CODE} to {LONGEST_CODE} characters, not {len(code)}; take a longer one"
        raise Failed(text if len(code) < SHORTEST_CODE else text.replace("longer", "shorter"), 2)
    if code != code.strip() or not code.isprintable():
        raise Failed("the unlock code begins or ends with a blank, or holds what cannot be typed; take another", 2)
    return code


def _keep(state_dir: Path, hash: str, card: bool) -> None:
    try:
        keep_unlock_hash(state_dir, hash, _file(card))
    except StateDirError as problem:
        raise Failed(str(problem)) from None


def _tell(state_dir: Path, changed: str, done: str, card: bool) -> None:
    """Let the running appliance know; without one it is read at the next start."""
    if not is_running(state_dir):
        click.echo(f"{done} Locum does not run; it takes note when it starts.")
        return
    try:
        answer = ask(state_dir, "unlock-code", changed=changed, **({"card": True} if card else {}))
    except ClientError as problem:
        raise Failed(f"it is kept, but the running Locum did not take note ({problem}); restart it") from None
    click.echo(message_of(answer) or done)
