"""The documentation says what the program does: each page is held against the program itself.

Every command and option, every configuration key with its default and every row of the state table must be there.
Links resolve, examples in TOML load, and shell examples name commands that exist. `test_docs_ledger.py` does the same
for the ledger.
"""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
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
from appliance.init.certificate import self_signed
from appliance.metrics import RECORDS, Figures
from appliance.rates import Rates
from protocols.radius.jobs import JOB_ATTRIBUTES
from protocols.terminal.frames import ErrorCode
from proxy.link import TABLE
from tests.benchmarks.__main__ import ALL
from tests.docs_pages import (
    DOCS,
    ROOT,
    Block,
    blocks,
    code,
    command_lines,
    names,
    rows,
    sections,
    text_of,
    without_examples,
)
from tests.peers.locum import Locum
from tests.peers.ports import free_port

WANTED = {
    "adding-a-dialect", "architecture", "commands", "configuration", "exports", "install", "keeping", "ledger",
    "meters", "offline-mode", "operations", "papercut", "privacy", "radius", "report", "seeing", "simulator", "snmp",
    "terminal", "verifying",
}  # fmt: skip

PLACES = (
    "/etc/locum", "/var/lib/locum", "/opt/locum", "/usr/local/bin/locum", "/etc/systemd/system/locum.service",
    "/mnt/old/var/lib/locum/ledger.db", "/var/backups/ledger-copy.db", "/var/backups/ledger-2025.db",
    "/var/backups/ledger-2026.db", "/var/backups/ledger-2026-11-23.db", "/var/backups/locum-before",
    "/usr/bin/locum", "/usr/lib/systemd/system", "/usr/share/doc/locum", "/var/backups/ledger-before.db",
    "/bin/kill", "/dev/null", "/tmp/lab", "/etc/sysctl.d/locum.conf",
)  # fmt: skip
"""The only absolute paths that a reader is told of."""
AT_A_SERVER = ("/rpc/api/xmlrpc",)
"""Paths of addresses on the web, not of files."""
TOOLS = {
    "adduser", "apt-get", "cd", "cp", "datasette", "echo", "install", "ln", "openssl", "pip", "python3", "radclient",
    "rm", "sed", "sqlite-utils", "sqlite3", "systemctl",
}  # fmt: skip
"""Commands of others that the examples use."""


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
    assert [path for path in paths if not path.startswith(PLACES + AT_A_SERVER)] == []


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
def test_commands_has_every_command_and_option(words: tuple[str, ...]) -> None:
    parts = sections("docs/commands.md")
    title = " ".join(("locum", *words))
    assert title in parts, f"docs/commands.md has no section `{title}`"
    said = " ".join(code(parts[title]) | code(parts["Commands"]))
    options = [each for each in COMMANDS[words].params if isinstance(each, click.Option)]
    missing = [name for option in options for name in option.opts if not re.search(rf"(?<!\S){name}\b", said)]
    assert missing == []


def test_global_options_are_in_commands() -> None:
    options = [name for each in locum.params for name in each.opts if isinstance(each, click.Option)]
    said = text_of("docs/commands.md")
    assert [name for name in (*options, "--help", "-h") if name not in said] == []


def test_choices_of_options_are_in_commands() -> None:
    parts = sections("docs/commands.md")
    missing = []
    for words, command in COMMANDS.items():
        for option in command.params:
            if isinstance(option.type, click.Choice):
                said = " ".join(code(parts[" ".join(("locum", *words))]))
                missing += [choice for choice in option.type.choices if choice not in said]
    assert missing == []


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


@pytest.mark.parametrize("unit", sorted((ROOT / "appliance/units").glob("*.service")), ids=lambda unit: unit.name)
def test_the_unit_files_run_commands_that_exist(unit: Path) -> None:
    starts = re.findall(r"^Exec(?:Start|Stop|Reload)=/usr/bin/locum (.*)$", unit.read_text(), re.MULTILINE)
    assert starts
    for start in starts:
        check_locum(shlex.split(start))


def test_operations_has_every_benchmark() -> None:
    assert set(ALL) == {each for row in rows(sections("docs/operations.md")["Figures"]) for each in code(row[0])}


def test_readme_has_the_two_commands() -> None:
    assert {"make demo", "make test"} <= code(text_of("README.md"))
    assert {"demo", "test"} <= targets()


# --- configuration ------------------------------------------------------------------------------------------------

SECTIONS: dict[str, type[msgspec.Struct]] = {
    "[appliance]": tables.Appliance,
    "[[upstream]]": tables.RadiusUpstream,
    "[[upstream]], terminal": tables.TerminalUpstream,
    "[[upstream]], PaperCut": tables.PapercutUpstream,
    "[[upstream]], tls": tables.UpstreamTls,
    "test_login": tables.TestLogin,
    "[[listen]]": tables.RadiusListen,
    "[[listen]], terminal": tables.TerminalListen,
    "[[listen]], tls": tables.ListenTls,
    "clients": tables.Client,
    "[[reader]]": tables.CardReader,
    "[offline]": tables.Offline,
    "[[device]]": tables.Device,
    "[[device]], snmp": tables.DeviceSnmp,
    "[snmp]": tables.Snmp,
    "[snmp.agent]": tables.SnmpAgent,
    "[snmp.proxy]": tables.SnmpProxy,
    "copiers": tables.ProxiedCopier,
    "[snmp.traps]": tables.SnmpTraps,
    "[radius]": tables.Radius,
    "[radius.job]": tables.RadiusJob,
    "[alerts]": tables.Alerts,
    "[metrics]": tables.Metrics,
    "[ledger]": tables.Ledger,
    "[inline]": tables.Inline,
}


def plain(value: Any) -> Any:
    return value.seconds if isinstance(value, tables.Duration) else value


@pytest.mark.parametrize("title", SECTIONS)
def test_configuration_has_every_key_with_its_default(title: str) -> None:
    said = {row[0].strip("`"): row for row in rows(sections("docs/configuration.md")[title]) if len(row) == 4}
    said.pop("key", None)
    fields = {each.encode_name: each for each in msgspec.structs.fields(SECTIONS[title])}
    assert set(said) == set(fields)
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
    assert [key for key in tables.LATER_SECTIONS if key not in said] == []


def test_configuration_names_what_may_differ_for_a_device() -> None:
    keys = {each.encode_name for each in msgspec.structs.fields(tables.Offline)}
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


CERTIFICATE, KEY = self_signed("docs", "127.0.0.1")
PAIR = {".crt": CERTIFICATE, ".pem": CERTIFICATE, ".key": KEY}


def whole(text: str) -> str:
    """A configuration that holds this example."""
    if 'name = "hq"' not in text:
        text += BASE
    listen = BASE_LISTEN.replace("127.0.0.1", "0.0.0.0") if "[inline]" in text else BASE_LISTEN
    return text if "[[listen]]" in text else text + listen


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_examples_of_configuration_load(block: Block, tmp_path: Path) -> None:
    text = whole(block.text)
    for place in sorted(set(re.findall(r'"(/etc/locum/[^"]+|/tmp/lab/\w+(?<!state))"', text))):
        file = tmp_path / Path(place).name
        file.touch(mode=0o600)
        file.write_bytes(PAIR.get(file.suffix, b"a long random secret\n"))
    for dictionary in blocks("dictionary"):
        (tmp_path / "dictionary.example").write_text(dictionary.text)
    for name in re.findall(r'_file = "([^"/]+)"', text):
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text("a long random secret\n")
    text = (
        text.replace("/etc/locum", str(tmp_path))
        .replace("/tmp/lab", str(tmp_path))
        .replace("/var/lib/locum", str(tmp_path / "state"))
    )
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
    assert states <= code(text_of("docs/commands.md"))
    assert states <= code(text_of("docs/offline-mode.md"))


# --- log lines and counters ---------------------------------------------------------------------------------------


@cache
def source() -> str:
    packages = ("protocols", "storage", "proxy", "appliance")
    return "\n".join(file.read_text("utf-8") for name in packages for file in sorted((ROOT / name).rglob("*.py")))


def test_lines_of_the_log_are_lines_that_the_program_writes() -> None:
    parts = sections("docs/operations.md")
    fragments = [
        fragment
        for title in ("Lines of the log, and what to do", "Answered with")
        for row in rows(parts[title])
        for fragment in code(row[0])
    ]
    assert len(fragments) > 80
    assert [each for each in fragments if each not in source()] == []


def test_every_alarm_is_in_operations() -> None:
    raised = set(re.findall(r'alarm="([a-z-]+)"', source())) | {"outage", "recovery", "unproven"}
    assert code(" ".join(row[0] for row in rows(sections("docs/operations.md")["Alarms"]))) == raised


def test_every_figure_for_prometheus_is_in_operations_with_its_labels() -> None:
    rates = Rates()
    rates.observe_login(0.1, "server", "granted")
    rates.count_job("online")
    rates.count_forwarded("hq", "delivered")
    outbox = {**dict.fromkeys(RECORDS, 0), "oldest": None}
    status = {
        "version": "1",
        "upstreams": [{"name": "hq", "state": "online", "proven": True, "since": None, "outbox": outbox}],
        "devices": [{"offline": "online", "sessions": 0}],
        "ledger": {"entries": 0, "jobs": 0, "bytes": 0},
        "storage": {"error": None, "free_bytes": 0, "total_bytes": 0},
        "dropped": {"loop": 1},
        "proxied": [{"device": "OLD-1", "asked": 0, "silent": False}],
        "traps": {"waiting": 0, "kept": 0},
    }
    made = {
        f"{family.name}_total" if family.type == "counter" else family.name: {
            label for sample in family.samples for label in sample.labels if label != "le"
        }
        for family in Figures(lambda: status, rates).collect()
    }
    listed = rows(sections("docs/operations.md")["Prometheus"])[1:]
    assert {name: code(row[1]) for row in listed for name in code(row[0])} == made


def test_words_at_the_device_are_words_that_the_program_says() -> None:
    listed = rows(sections("docs/offline-mode.md")["Words at the device"])
    words = [each.removesuffix(":") for row in listed for each in code(row[0])]
    assert len(words) > 15
    assert [each for each in words if each not in source()] == []


def test_counters_are_counters_that_the_program_has() -> None:
    made = {f"{what}-{how}" for what in ("attribute", "vendor-attribute") for how in ("length", "zero")}
    made |= {f"terminal-{code.name.lower()}" for code in ErrorCode}
    tables = (sections("docs/radius.md")["What is dropped"], sections("docs/terminal.md")["What is counted"])
    counters = [each for text in tables for row in rows(text) for each in code(row[0])]
    assert len(counters) > 30
    assert [each for each in counters if each not in made and f'"{each}"' not in source()] == []


def test_attributes_of_the_dictionary_are_in_radius() -> None:
    said = {row[1]: (row[0], row[2]) for row in rows(sections("docs/radius.md")["Page counts"]) if len(row) == 4}
    assert {name: (str(number), kind) for _, number, name, kind, _ in JOB_ATTRIBUTES}.items() <= said.items()
    shipped = re.findall(
        r"^ATTRIBUTE\s+(\S+)\s+(\d+)\s+(\S+)", text_of("protocols/radius/dictionary.locum"), re.MULTILINE
    )
    assert {name: (number, kind) for name, number, kind in shipped}.items() <= said.items()


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


@dataclass(slots=True)
class NoServer:
    """Ports where nobody listens."""

    auth_port: int
    acct_port: int
    secret: bytes = b"a long random secret"


OTHER_SERVERS = """
[[upstream]]
name = "print"
dialect = "papercut"
url = "http://127.0.0.1:{port}"
token = "a long random token"

[[upstream]]
name = "lab"
dialect = "terminal"
address = "127.0.0.1"
port = {port}

[[reader]]
device = "OLD-1"
upstream = "print"
address = "127.0.0.1"
port = {port}
listen = "127.0.0.1:{listen}"

[[device]]
id = "OLD-1"
snmp = {{ address = "127.0.0.1", port = {port}, community = "public" }}

[snmp.proxy]
bind = "127.0.0.1"
community = "for the management"
copiers = [{{ device = "OLD-1", port = {proxy} }}]

[snmp.traps]
bind = "127.0.0.1"
port = {traps}
server = "127.0.0.1:{port}"
upstream = "lab"
"""


def test_operations_has_every_key_of_status(tmp_path: Path) -> None:
    """Of every dialect, with a drill that runs."""
    proxy, traps = free_port(), free_port()
    more = OTHER_SERVERS.format(port=free_port(), listen=free_port(), proxy=proxy, traps=traps)
    appliance = Locum.before(tmp_path, NoServer(free_port(), free_port()), more=more)
    try:
        begun = appliance.start().run_to_its_end("drill", "start", "--all", "--reason", "docs")
        assert begun.returncode == 0, begun.stderr
        appliance.run_to_its_end("ledger", "sign")
        told = keys({**appliance.status(), "dropped": {}})
    finally:
        appliance.stop()
    shown = next(json.loads(block.text) for block in blocks("json") if '"upstreams"' in block.text)
    assert told - keys(shown) == set()
    nothing_yet = keys({key: shown[key] for key in ("dropped", "last_outage", "devices")})
    assert keys(shown) - told - nothing_yet == set()
