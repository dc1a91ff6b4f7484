"""The documentation says what the program does: each page is held against the program itself.

Every command and option, every configuration key with its default, every table, view and column of the ledger and
every row of the state table must be there. Links resolve, examples in TOML load, queries and the program that checks
the chain run on a real ledger, and shell examples name commands that exist.
"""

from __future__ import annotations

import json
import re
import shlex
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from appliance.check import settings
from appliance.check.findings import Level
from appliance.cli.main import locum
from appliance.config import load, tables
from protocols.radius.jobs import JOB_ATTRIBUTES
from proxy.link import TABLE
from storage import schema, views
from storage.ledger import Ledger
from storage.records import AppLogLine, Delivery, Logout, Note, OutboxState, Quarantined, Remember, Take
from tests.benchmarks.__main__ import ALL
from tests.peers.locum import Locum
from tests.peers.ports import free_port
from tests.peers.skips import program
from tests.unit.storage_samples import NOW, job, login, mark, offline_login, restart, step

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS.glob("*.md")])
WANTED = {
    "adding-a-dialect", "architecture", "configuration", "install", "ledger", "offline-mode", "operations", "radius",
}  # fmt: skip

PLACES = (
    "/etc/locum", "/var/lib/locum", "/opt/locum", "/usr/local/bin/locum", "/etc/systemd/system/locum.service",
    "/root/ledger-copy.db", "/root/locum-before", "/bin/kill", "/dev/null", "/tmp/lab", "/etc/sysctl.d/locum.conf",
)  # fmt: skip
"""The only absolute paths that a reader is told of."""
TOOLS = {
    "adduser", "apt-get", "cd", "cp", "echo", "install", "ln", "openssl", "pip", "python3", "radclient", "rm",
    "sqlite-utils", "sqlite3", "systemctl",
}  # fmt: skip
"""Commands of others that the examples use."""


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


# --- pages and links ----------------------------------------------------------------------------------------------


def test_every_page_is_there() -> None:
    assert {page.stem for page in DOCS.glob("*.md")} >= WANTED


def anchors(name: str) -> set[str]:
    """The anchors of a page's headings, made as GitHub makes them."""
    titles = re.findall(r"^#{1,6} (.*)$", without_examples(text_of(name)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", names())
def test_links_resolve(name: str) -> None:
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_examples(text_of(name))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        if not file.exists() or (anchor and anchor not in anchors(str(file.resolve().relative_to(ROOT)))):
            wrong.append(target)
    assert wrong == []


@pytest.mark.parametrize("name", names())
def test_only_places_of_an_installation_are_named(name: str) -> None:
    paths = re.findall(r"(?<![\w.\]:/~)])/[a-z]\w*/[\w./*-]+", text_of(name))
    assert [path for path in paths if not path.startswith(PLACES)] == []


def test_readme_leads_to_every_page() -> None:
    assert [page.name for page in DOCS.glob("*.md") if f"(docs/{page.name})" not in text_of("README.md")] == []


# --- commands -----------------------------------------------------------------------------------------------------


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, with its words."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(commands(locum))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_operations_has_every_command_and_option(words: tuple[str, ...]) -> None:
    parts = sections("docs/operations.md")
    title = " ".join(("locum", *words))
    assert title in parts, f"docs/operations.md has no section `{title}`"
    said = " ".join(code(parts[title]) | code(parts["Commands"]))
    options = [each for each in COMMANDS[words].params if isinstance(each, click.Option)]
    missing = [name for option in options for name in option.opts if not re.search(rf"(?<!\S){name}\b", said)]
    assert missing == []


def test_global_options_are_in_operations() -> None:
    options = [name for each in locum.params for name in each.opts if isinstance(each, click.Option)]
    said = text_of("docs/operations.md")
    assert [name for name in (*options, "--help", "-h") if name not in said] == []


def test_choices_of_options_are_in_operations() -> None:
    parts = sections("docs/operations.md")
    missing = []
    for words, command in COMMANDS.items():
        for option in command.params:
            if isinstance(option.type, click.Choice):
                said = " ".join(code(parts[" ".join(("locum", *words))]))
                missing += [choice for choice in option.type.choices if choice not in said]
    assert missing == []


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


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", text_of("Makefile"), re.MULTILINE))


def check_locum(words: list[str]) -> None:
    """Fails for a command or an option that `locum` does not have."""
    command: click.Command = locum
    while isinstance(command, click.Group):
        _, words, _ = command.make_parser(click.Context(command)).parse_args(list(words))
        if not words:
            return
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, f"locum has no command {words[0]}"
        command, words = found, words[1:]
    command.make_parser(click.Context(command)).parse_args(list(words))


@pytest.mark.parametrize("block", blocks("sh", "console"), ids=str)
def test_shell_examples_name_commands_that_exist(block: Block) -> None:
    for words in command_lines(block):
        name = Path(words[0]).name
        if name == "locum":
            check_locum(words[1:])
        elif name == "make":
            assert set(words[1:]) <= targets()
        else:
            assert name in TOOLS, f"{name} is not a command that the examples use"


@pytest.mark.parametrize("name", names())
def test_commands_in_sentences_exist(name: str) -> None:
    for each in code(without_examples(text_of(name))):
        words = each.split()
        if words[0] == "make" and len(words) > 1:
            assert words[1] in targets(), each
        elif words[0] == "locum" and len(words) > 1:
            known = {word for path in COMMANDS for word in path}
            assert words[1] in known or words[1].startswith("-"), each


def test_the_unit_file_runs_a_command_that_exists() -> None:
    units = [block for block in blocks("ini") if "[Service]" in block.text]
    assert units
    for unit in units:
        starts = re.findall(r"^ExecStart=(.*)$", unit.text, re.MULTILINE)
        assert starts
        for start in starts:
            check_locum(shlex.split(start)[1:])


def test_operations_has_every_benchmark() -> None:
    assert set(ALL) == {each for row in rows(sections("docs/operations.md")["Figures"]) for each in code(row[0])}


def test_readme_has_the_two_commands() -> None:
    assert {"make demo", "make test"} <= code(text_of("README.md"))
    assert {"demo", "test"} <= targets()


# --- configuration ------------------------------------------------------------------------------------------------

SECTIONS: dict[str, type[msgspec.Struct]] = {
    "[appliance]": tables.Appliance,
    "[[upstream]]": tables.RadiusUpstream,
    "test_login": tables.TestLogin,
    "[[listen]]": tables.RadiusListen,
    "clients": tables.Client,
    "[offline]": tables.Offline,
    "[[device]]": tables.Device,
    "[radius]": tables.Radius,
    "[radius.job]": tables.RadiusJob,
}


def plain(value: Any) -> Any:
    return value.seconds if isinstance(value, tables.Duration) else value


@pytest.mark.parametrize("title", SECTIONS)
def test_configuration_has_every_key_with_its_default(title: str) -> None:
    said = {row[0].strip("`"): row for row in rows(sections("docs/configuration.md")[title]) if len(row) == 4}
    said.pop("key", None)
    later = set(tables.LATER_LIMITS) if SECTIONS[title] is tables.Offline else set()
    fields = {each.encode_name: each for each in msgspec.structs.fields(SECTIONS[title])}
    assert set(said) == set(fields) - later
    for name in said:
        check_default(said[name][2], fields[name])


def check_default(cell: str, field: msgspec.structs.FieldInfo) -> None:
    if field.required:
        assert cell == "required", field.name
        return
    default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    if default is None:
        assert cell == "none" or cell.startswith("the same as"), field.name
        return
    shown = tomllib.loads(f"value = {cell.strip('`')}")["value"]
    wanted = msgspec.convert(shown, field.type, dec_hook=tables.decode_hook)
    assert plain(wanted) == plain(default), field.name


def test_configuration_names_what_it_refuses_as_not_built_yet() -> None:
    said = text_of("docs/configuration.md")
    assert [key for key in (*tables.LATER_LIMITS, *tables.LATER_SECTIONS) if key not in said] == []


def test_configuration_names_what_may_differ_for_a_device() -> None:
    keys = {each.encode_name for each in msgspec.structs.fields(tables.Offline)} - set(tables.LATER_LIMITS)
    said = code(sections("docs/configuration.md")["[[device]]"])
    assert keys <= said


BASE = """\
[[upstream]]
name = "hq"
dialect = "radius"
address = "10.0.0.5"
secret_file = "/etc/locum/hq.secret"
"""
BASE_LISTEN = """\
[[listen]]
dialect = "radius"
bind = "127.0.0.1"
upstream = "hq"
clients = [{ network = "10.7.0.0/24", secret_file = "/etc/locum/copiers.secret" }]
"""


def whole(text: str) -> str:
    """A configuration that holds this example."""
    if "[[upstream]]" not in text:
        text += BASE
    return text if "[[listen]]" in text else text + BASE_LISTEN


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_examples_of_configuration_load(block: Block, tmp_path: Path) -> None:
    text = whole(block.text)
    for place in sorted(set(re.findall(r'"(/etc/locum/[^"]+)"', text))):
        file = tmp_path / Path(place).name
        file.touch(mode=0o600)
        file.write_text("a long random secret\n")
    for dictionary in blocks("dictionary"):
        (tmp_path / "dictionary.example").write_text(dictionary.text)
    for name in re.findall(r'_file = "([^"/]+)"', text):
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text("a long random secret\n")
    text = text.replace("/etc/locum", str(tmp_path)).replace("/var/lib/locum", str(tmp_path / "state"))
    file = tmp_path / "locum.toml"
    file.touch(mode=0o640)
    file.write_text(text)
    config = load(file)
    assert [found for found in settings.findings(config) if found.level is Level.ERROR] == []
    commented = re.sub(r"^# (?=\w+ = )", "", text, flags=re.MULTILINE)
    if commented != text:
        (tmp_path / "probe.password").touch(mode=0o600)
        (tmp_path / "probe.password").write_text("a password\n")
        file.write_text(commented)
        load(file)


# --- states -------------------------------------------------------------------------------------------------------


def test_offline_mode_has_the_whole_state_table() -> None:
    said = {
        (row[0].strip("`"), row[1]): row[2].strip("`")
        for row in rows(sections("docs/offline-mode.md")["The four states"])
        if len(row) == 3 and row[0].startswith("`")
    }
    shown = {key: to for key, to in said.items() if key[1] in {signal.value for _, signal in TABLE}}
    assert shown == {(state.value, signal.value): to.value for (state, signal), to in TABLE.items()}


def test_every_state_is_explained_where_admins_look() -> None:
    states = {state.value for state, _ in TABLE}
    assert states <= code(text_of("docs/operations.md"))
    assert states <= code(text_of("docs/offline-mode.md"))


# --- log lines and counters ---------------------------------------------------------------------------------------


@cache
def source() -> str:
    packages = ("protocols", "storage", "proxy", "appliance")
    return "\n".join(file.read_text("utf-8") for name in packages for file in sorted((ROOT / name).rglob("*.py")))


def test_lines_of_the_log_are_lines_that_the_program_writes() -> None:
    listed = rows(sections("docs/operations.md")["Lines of the log, and what to do"])
    fragments = [fragment for row in listed for fragment in code(row[0])]
    assert len(fragments) > 20
    assert [each for each in fragments if each not in source()] == []


def test_counters_are_counters_that_the_program_has() -> None:
    made = {f"{what}-{how}" for what in ("attribute", "vendor-attribute") for how in ("length", "zero")}
    counters = [each for row in rows(sections("docs/radius.md")["What is dropped"]) for each in code(row[0])]
    assert len(counters) > 10
    assert [each for each in counters if each not in made and f'"{each}"' not in source()] == []


def test_attributes_of_the_dictionary_are_in_radius() -> None:
    said = {row[1]: (row[0], row[2]) for row in rows(sections("docs/radius.md")["Page counts"]) if len(row) == 4}
    assert {name: (str(number), kind) for _, number, name, kind, _ in JOB_ATTRIBUTES}.items() <= said.items()
    shipped = re.findall(
        r"^ATTRIBUTE\s+(\S+)\s+(\d+)\s+(\S+)", text_of("protocols/radius/dictionary.locum"), re.MULTILINE
    )
    assert {name: (number, kind) for name, number, kind in shipped}.items() <= said.items()


# --- the ledger ---------------------------------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A small ledger with something of everything, closed."""
    path = tmp_path / "ledger.db"
    book = Ledger.open(path, NOW)
    book.commit(
        [
            Note(NOW, "start", {"version": "0.1.0", "in_flight": 0}),
            login("04A1B2C3"),
            job(1, personal=job(1).personal),
            restart(),
            mark("start", key="start of 7"),
            step("failed", "grace"),
            step("offline", "offline"),
            offline_login("ab" * 16),
            Logout(NOW, "KM-A4F-000123", "ab" * 16, "stop"),
            AppLogLine(NOW, "warning", 'größer als "null"\n\tund Ümläut \x7f \u2028', {"client": "10.7.0.31", "n": 3}),
            Quarantined(NOW, "radius", "", "10.7.0.31", "too-short", b"\x00\x01\xff"),
            Remember("proven:hq:0011", "1"),
            step("recovered", "recovering", at=NOW + 60_000),
        ]
    )
    book.commit([Take(NOW, "hq", (3, 4))])
    book.commit(
        [
            Delivery(NOW, 3, "hq", "unanswered", OutboxState.WAITING, 1, "no answer", maybe_twice=True),
            Delivery(NOW, 3, "hq", "delivered", None, 2),
        ]
    )
    book.close()
    return path


def objects(path: Path) -> dict[str, set[str]]:
    """Every table and view of the file with its columns."""
    with closing(sqlite3.connect(path)) as book:
        found = book.execute("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')").fetchall()
        return {
            name: {row[1] for row in book.execute(f"PRAGMA table_info({name})")}
            for (name,) in found
            if not name.startswith("sqlite_")
        }


def test_ledger_page_has_every_table_view_and_column(ledger: Path) -> None:
    there = objects(ledger)
    assert set(there) >= {*schema.EVIDENCE, *schema.WORKING, *views.VIEWS}
    said = {title: text for title, text in sections("docs/ledger.md").items() if title in there}
    assert set(there) - set(said) == {"_sqlite_migrations"}
    missing = []
    for name, text in said.items():
        known = code(text)
        for other in re.findall(r"all columns of `(\w+)`", text):
            known |= there[other]
        missing += [f"{name}.{column}" for column in sorted(there[name] - known)]
    assert missing == []


def test_ledger_page_tells_of_no_column_that_is_not_there(ledger: Path) -> None:
    there = objects(ledger)
    wrong = []
    for name, text in sections("docs/ledger.md").items():
        if name in there:
            listed = {each for row in rows(text) if row[0] != "column" for each in code(row[0])}
            wrong += [f"{name}.{each}" for each in sorted(listed - there[name])]
    assert wrong == []


def statements() -> list[str]:
    return [text.strip() for block in blocks("sql") for text in block.text.split(";") if text.strip()]


def test_there_are_queries_to_try() -> None:
    assert len(statements()) >= 5


@pytest.mark.parametrize("query", statements(), ids=lambda query: query.splitlines()[0].strip("- "))
def test_queries_run(query: str, ledger: Path) -> None:
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as book:
        book.execute(query).fetchall()


def test_sqlite_tools_run_as_shown(ledger: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_bytes(ledger.read_bytes())
    ran = 0
    places = {"/var/lib/locum/ledger.db": str(ledger), "/root/ledger-copy.db": str(copy)}
    for block in blocks("sh"):
        for words in command_lines(block):
            tool = Path(words[0]).name
            if tool == "sqlite-utils":
                start = [sys.executable, "-m", "sqlite_utils"]
            elif tool == "sqlite3" and program("sqlite3") is not None:
                start = [str(program("sqlite3"))]
            else:
                continue
            rest = [re.sub("|".join(places), lambda found: places[found[0]], word) for word in words[1:]]
            done = subprocess.run([*start, *rest], capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{words}: {done.stderr}"
            ran += 1
    assert ran >= 3


def checked(ledger: Path) -> subprocess.CompletedProcess[str]:
    """What the program of docs/ledger.md says of a ledger."""
    programs = [block for block in blocks("python") if block.page == "docs/ledger.md"]
    assert len(programs) == 1
    file = ledger.parent / "check_ledger.py"
    file.write_text(programs[0].text)
    # -I: nothing of ours can be imported, so an auditor needs nothing of ours
    return subprocess.run([sys.executable, "-I", str(file), str(ledger)], capture_output=True, text=True, check=False)


def altered(ledger: Path, *changes: str) -> Path:
    """The ledger after somebody with a shell, who knows of the triggers, has changed it."""
    with closing(sqlite3.connect(ledger)) as book:
        guards = book.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for (guard,) in guards:
            book.execute(f"DROP TRIGGER {guard}")
        for change in changes:
            assert book.execute(change).rowcount > 0, change
        book.commit()
    return ledger


def test_the_program_for_auditors_finds_a_ledger_sound(ledger: Path) -> None:
    done = checked(ledger)
    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(ledger)) as book:
        count, head = book.execute("SELECT seq, hash FROM entries ORDER BY seq DESC LIMIT 1").fetchone()
    assert f"sound: {count} entries" in done.stdout
    assert head.hex() in done.stdout


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE entries SET body = replace(body, '\"pages\":12', '\"pages\":11') WHERE kind = 'job'",
        "UPDATE entries SET hash = zeroblob(32) WHERE seq = 5",
        "UPDATE entries SET id = 'x' WHERE seq = 5",
        "DELETE FROM entries WHERE seq = 2",
        "UPDATE jobs SET pages = 1",
        "UPDATE personal SET card = '00000000' WHERE card <> ''",
        "UPDATE logins SET outcome = 'refused' WHERE seq = 2",
        "UPDATE deliveries SET outcome = 'delivered'",
    ],
)
def test_the_program_for_auditors_finds_what_was_altered(change: str, ledger: Path) -> None:
    done = checked(altered(ledger, change))
    assert done.returncode != 0
    assert "NOT SOUND" in done.stderr


def test_the_chain_holds_when_what_is_personal_was_deleted(ledger: Path) -> None:
    with closing(sqlite3.connect(ledger)) as book:
        assert book.execute("DELETE FROM personal WHERE card <> ''").rowcount > 0
        book.commit()
    assert checked(ledger).returncode == 0


# --- examples in JSON ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_examples_in_json_are_json(block: Block) -> None:
    json.loads(block.text)


def keys(value: Any, at: str = "") -> set[str]:
    if isinstance(value, dict):
        return {f"{at}.{key}" for key in value}.union(*(keys(each, f"{at}.{key}") for key, each in value.items()))
    if isinstance(value, list):
        return set().union(*(keys(each, at) for each in value))
    return set()


@dataclass(frozen=True, slots=True)
class NoServer:
    """Ports where nobody listens."""

    auth_port: int
    acct_port: int
    secret: bytes = b"a long random secret"


def test_operations_has_every_key_of_status(tmp_path: Path) -> None:
    appliance = Locum.before(tmp_path, NoServer(free_port(), free_port()))
    try:
        told = keys({**appliance.start().status(), "dropped": {}})
    finally:
        appliance.stop()
    shown = next(json.loads(block.text) for block in blocks("json") if '"upstreams"' in block.text)
    assert told - keys(shown) == set()
