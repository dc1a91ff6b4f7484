"""Which package may import what: every import is read, those inside functions too, and every arrow is checked."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("protocols", "storage", "proxy", "appliance")

MAY_IMPORT = {
    "protocols": {"protocols"},
    "storage": {"storage"},
    "proxy": {"proxy", "protocols", "storage"},
    "appliance": set(PACKAGES),
}
INPUT_AND_OUTPUT = {
    "twisted", "socket", "socketserver", "ssl", "select", "selectors", "asyncio", "threading", "multiprocessing",
    "concurrent", "subprocess", "time", "random", "secrets", "os", "pathlib", "shutil", "tempfile", "glob", "signal",
    "http", "urllib", "logging", "sqlite3", "sqlite_utils",
}  # fmt: skip
"""Modules that pure code may not have: sockets, clocks, randomness, files, threads, and what is made of them."""
IMPURE_CALLS = {"open", "input", "print", "uuid1", "uuid4", "now", "utcnow", "today", "urandom", "monotonic"}
PROXY_CONCERNS = INPUT_AND_OUTPUT | {"socket", "ctypes"}
FOR_TESTS_ONLY = {"pyrad", "hypothesis", "pytest", "rfc8785", "tests"}
HEAVY = {
    "scapy",
    "pyrad",
    "hypothesis",
    "pytest",
    "pysnmp",
    "rich",
    "sqlite_utils",
    "click",
    "pip",
    "setuptools",
    "OpenSSL",
    "jinja2",
    "pygal",
    "xlsxwriter",
}
"""What the running service must not carry: each costs memory or time at the start, and serves people or tests."""
BY_PYSNMP = ("proxy.net.snmp.carrier", "proxy.net.snmp.secure")
"""Loaded only where a copier is read by SNMPv3."""


@dataclass(frozen=True, slots=True)
class Import:
    """`module` is imported by the file at `place` ("proxy/link.py:12")."""

    package: str
    file: str
    line: int
    module: str

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(source: str, name: str) -> Iterator[Import]:
    """Every import in a file of this name under the root, at whatever depth."""
    package, *folders = Path(name).parent.parts
    for node in ast.walk(ast.parse(source, name)):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            folder = ".".join([package, *folders][: 1 - node.level or None])
            base = ".".join(filter(None, [folder if node.level else "", node.module or ""]))
            modules = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call) and called(node) in ("import_module", "__import__"):
            argument = node.args[0] if node.args else None
            modules = [str(argument.value)] if isinstance(argument, ast.Constant) else []
        else:
            continue
        yield from (Import(package, name, node.lineno, module) for module in modules)


def called(call: ast.Call) -> str:
    function = call.func
    return (
        function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""
    )


IMPORTS = [
    each
    for package in PACKAGES
    for file in files(package)
    for each in imported(file.read_text("utf-8"), str(file.relative_to(ROOT)))
]


def wrong(rule: "set[str] | frozenset[str]", *folders: str, but: tuple[str, ...] = ()) -> list[str]:
    """The imports of `rule`'s modules in files under `folders`, except under `but`."""
    return [
        each.place
        for each in IMPORTS
        if each.file.startswith(folders) and not (but and each.file.startswith(but)) and each.top in rule
    ]


def test_every_file_of_the_packages_is_read() -> None:
    assert {each.package for each in IMPORTS} == set(PACKAGES)
    assert all(files(package) for package in PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_arrows_point_from_appliance_to_proxy_to_protocols_and_storage(package: str) -> None:
    assert wrong(set(PACKAGES) - MAY_IMPORT[package], f"{package}/") == []


def test_protocols_have_no_io_no_clock_no_randomness() -> None:
    assert wrong(INPUT_AND_OUTPUT, "protocols/") == []


def test_the_logic_of_proxy_has_no_io_no_clock_no_randomness() -> None:
    assert wrong(PROXY_CONCERNS, "proxy/", but=("proxy/net/",)) == []


@pytest.mark.parametrize(("folder", "but"), [("protocols/", ()), ("proxy/", ("proxy/net/",))])
def test_pure_code_calls_nothing_that_reads_the_world(folder: str, but: tuple[str, ...]) -> None:
    found = []
    for file in files(folder.strip("/")):
        name = str(file.relative_to(ROOT))
        if but and name.startswith(but):
            continue
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and called(node) in IMPURE_CALLS:
                found.append(f"{name}:{node.lineno} calls {called(node)}")
    assert found == []


def test_storage_knows_no_twisted_and_no_network() -> None:
    assert wrong({"twisted", "socket", "ssl", "asyncio", "http", "urllib"}, "storage/") == []


def test_only_proxy_net_and_appliance_know_twisted() -> None:
    assert wrong({"twisted", "zope"}, "protocols/", "storage/", "proxy/", but=("proxy/net/",)) == []


def test_only_storage_opens_the_ledger() -> None:
    assert wrong({"sqlite3", "sqlite_utils"}, "protocols/", "proxy/") == []
    opened = [
        str(file.relative_to(ROOT))
        for file in files("appliance")
        if re.search(r"sqlite3\.connect|sqlite_utils", file.read_text("utf-8"))
    ]
    # the simulated server keeps a book of its own, which is no ledger
    assert [name for name in opened if not name.startswith(("appliance/simulator/", "appliance/demo"))] == []


def test_what_is_for_tests_is_nowhere_in_the_packages() -> None:
    assert wrong(FOR_TESTS_ONLY, *(f"{package}/" for package in PACKAGES)) == []


def test_only_what_looks_at_the_wire_has_scapy_and_only_its_commands_have_that() -> None:
    assert wrong({"scapy"}, *(f"{package}/" for package in PACKAGES), but=("appliance/seeing/",)) == []
    users = [each for each in IMPORTS if each.module.startswith("appliance.seeing")]
    assert [
        each.place for each in users if not each.file.startswith(("appliance/seeing/", "appliance/cli/seeing"))
    ] == []


def test_imports_are_seen_wherever_they_stand() -> None:
    source = (
        "def f():\n    import scapy.all\n    importlib.import_module('pyrad.packet')\n"
        "if TYPE_CHECKING:\n    from twisted.internet import udp\nfrom ..link import State\n"
    )
    seen = {each.module for each in imported(source, "proxy/net/driver.py")}
    assert seen == {
        "scapy.all", "pyrad.packet", "twisted.internet", "twisted.internet.udp", "proxy.link", "proxy.link.State"
    }  # fmt: skip


def test_the_running_service_carries_nothing_heavy() -> None:
    modules = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for package in ("protocols", "storage", "proxy")
        for file in files(package)
    ]
    modules = [name for name in modules if name not in BY_PYSNMP]
    modules = [name for name in modules if not name.startswith("storage.export")]  # its formats are for commands only
    modules += [name for name in ("config", "log", "control", "service") if any(ROOT.glob(f"appliance/{name}*"))]
    modules = [name if "." in name or name in PACKAGES else f"appliance.{name}" for name in modules]
    program = f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\nprint(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    tops = {name.partition(".")[0] for name in loaded.split()}
    assert "protocols" in tops
    assert tops & HEAVY == set()
