"""`locum check`: what is fine, what is doubtful and what is wrong, each with what to do."""

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance.check import Finding, Level, check_all
from appliance.check.radius import ask
from appliance.cli import main
from appliance.client import SOCKET_NAME
from appliance.config import Config, RadiusListenConfig, RadiusUpstreamConfig, load
from protocols.radius.packet import Code, Packet, parse
from protocols.radius.secrets import sign_response, verify_message_authenticator
from storage import space
from storage.ledger import Ledger
from tests.peers.ports import free_port
from tests.unit.configs import write
from tests.unit.control_peer import ControlPeer

ROOT = Path(__file__).resolve().parents[2]
SECRET = "a secret of more than sixteen"

Answer = Callable[[bytes, Packet], bytes | None]


def answered(datagram: bytes, packet: Packet) -> bytes | None:
    assert verify_message_authenticator(datagram, packet, SECRET.encode())
    code = Code.ACCESS_ACCEPT
    return sign_response(code, packet.identifier, (), packet.authenticator, SECRET.encode(), message_authenticator=True)


def unsigned(datagram: bytes, packet: Packet) -> bytes | None:
    code, secret = Code.ACCESS_ACCEPT, SECRET.encode()
    return sign_response(code, packet.identifier, (), packet.authenticator, secret, message_authenticator=False)


def under_another_secret(datagram: bytes, packet: Packet) -> bytes | None:
    code = Code.ACCESS_ACCEPT
    return sign_response(code, packet.identifier, (), packet.authenticator, b"other", message_authenticator=False)


def silent(datagram: bytes, packet: Packet) -> bytes | None:
    return None


def logins_only(datagram: bytes, packet: Packet) -> bytes | None:
    return answered(datagram, packet) if packet.code == Code.ACCESS_REQUEST else None


@contextmanager
def server(answer: Answer, host: str = "127.0.0.1") -> Iterator[int]:
    """A RADIUS server on one port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as listening:
        listening.bind((host, 0))
        listening.settimeout(0.05)
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                try:
                    datagram, peer = listening.recvfrom(4096)
                except TimeoutError:
                    continue
                reply = answer(datagram, parse(datagram))
                if reply is not None:
                    listening.sendto(reply, peer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield int(listening.getsockname()[1])
        finally:
            over.set()
            thread.join(5)


def config_file(folder: Path, auth: int, accounting: int, more: str = "", **changes: str) -> Path:
    keys = {"address": "127.0.0.1", "listen": "127.0.0.1", "secret": SECRET, "upstream": "", "client": ""} | changes
    state = folder / "state"
    state.mkdir(mode=0o750, exist_ok=True)
    return write(
        folder,
        f"""[appliance]
state_dir = "{state}"
[[upstream]]
name = "hq"
dialect = "radius"
address = "{keys["address"]}"
auth_port = {auth}
accounting_port = {accounting}
secret = "{keys["secret"]}"
answer_timeout = "200ms"
{keys["upstream"]}
[[listen]]
dialect = "radius"
bind = "{keys["listen"]}"
auth_port = {free_port()}
accounting_port = {free_port()}
upstream = "hq"
clients = [{{ network = "10.7.0.0/24", secret = "{SECRET}" {keys["client"]} }}]
{more}
""",
    )


def config_for(folder: Path, auth: int = 9, accounting: int = 9, more: str = "", **changes: str) -> Config:
    return load(config_file(folder, auth, accounting, more, **changes))


def found(config: Config, what: str) -> list[Finding]:
    return [finding for finding in check_all(config) if finding.what.startswith(what)]


def only(config: Config, what: str) -> Finding:
    (finding,) = found(config, what)
    return finding


def test_a_machine_that_is_ready_has_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with server(answered) as auth, server(answered) as accounting:
        assert main(["check", "-c", str(config_file(tmp_path, auth, accounting))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} == {"ok", "warning"}
    assert any(line.startswith(f"ok       upstream hq, 127.0.0.1:{auth}: answered in ") for line in lines)
    assert any(line.startswith("warning  offline: all limits are off") for line in lines)
    assert not (tmp_path / "state" / "ledger.db").exists()


def test_an_error_is_exit_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--json", "-c", str(config_file(tmp_path, 9, 9))]) == 1
    assert '"level": "error"' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "level", "said"),
    [
        (answered, Level.OK, "with Message-Authenticator"),
        (unsigned, Level.OK, "without Message-Authenticator"),
        (under_another_secret, Level.ERROR, "not under this secret"),
        (silent, Level.WARNING, "unproven: no answer, so the server is away"),
        (logins_only, Level.WARNING, "unproven"),
    ],
)
def test_each_way_a_server_can_answer_is_told(tmp_path: Path, answer: Answer, level: Level, said: str) -> None:
    with server(answer) as port:
        finding = found(config_for(tmp_path, port, port), f"upstream hq, 127.0.0.1:{port}")[0]
    assert finding.level is level
    assert said in finding.text


def test_a_server_that_nobody_reaches_is_an_error(tmp_path: Path) -> None:
    port = free_port()
    (first, second, whole) = found(config_for(tmp_path, port, port), "upstream hq")
    assert "refuses: no server listens there" in first.text
    assert (first.level, second.level, whole.level) == (Level.ERROR,) * 3
    assert "no address of it answered for logins" in whole.text


def test_one_address_that_answers_is_enough(tmp_path: Path) -> None:
    config = config_file(tmp_path, 1, 1)
    with server(answered) as port:
        text = config.read_text().replace(
            '"127.0.0.1"\nauth_port = 1\n', f'["127.0.0.3", "127.0.0.1"]\nauth_port = {port}\n'
        )
        findings = found(load(write(tmp_path, text)), "upstream hq")
    assert len(findings) == 4
    assert not any("no address" in finding.text for finding in findings)


def test_a_test_login_proves_a_server_without_status_server(tmp_path: Path) -> None:
    with server(logins_only) as port:
        config = config_for(tmp_path, port, port, upstream='test_login = { user = "probe", password = "probe" }')
        upstream = config.upstreams[0]
        assert isinstance(upstream, RadiusUpstreamConfig)
        assert ask("127.0.0.1", port, upstream, "locum").fate == "answered"


def test_a_server_without_message_authenticator_counts_as_dead_where_it_is_required(tmp_path: Path) -> None:
    with server(unsigned) as port:
        config = config_for(tmp_path, port, port, upstream="require_message_authenticator = true")
        finding = found(config, "upstream hq, ")[0]
    assert finding.level is Level.ERROR
    assert 'or set "auto"' in finding.text


def test_a_server_is_reached_over_ipv6(tmp_path: Path) -> None:
    with server(answered, "::1") as port:
        config = config_for(tmp_path, port, port, address="::1")
        assert found(config, f"upstream hq, [::1]:{port}")[0].level is Level.OK


def test_a_name_that_cannot_be_resolved_is_an_error(tmp_path: Path) -> None:
    finding = only(config_for(tmp_path, address="nobody.invalid"), "name nobody.invalid")
    assert finding.level is Level.ERROR
    assert "cannot be resolved" in finding.text


def test_the_state_directory_must_be_closed_to_others(tmp_path: Path) -> None:
    config = config_for(tmp_path)
    assert only(config, "state directory").level is Level.OK
    config.state_dir.chmod(0o755)
    assert (
        only(config, "state directory").text
        == f"{config.state_dir} is open to everybody; run: chmod o-rwx {config.state_dir}"
    )
    config.state_dir.rmdir()
    assert "will be made" in only(config, "state directory").text
    config.state_dir.write_text("")
    assert "is no directory" in only(config, "state directory").text


def test_the_ledger_must_be_one_that_this_version_reads(tmp_path: Path) -> None:
    config = config_for(tmp_path)
    file = config.state_dir / "ledger.db"
    assert "will be made" in only(config, "ledger").text
    Ledger.open(file, 1_795_342_503_120).close()
    assert only(config, "ledger").level is Level.OK
    file.write_bytes(b"no ledger at all" * 100)
    assert only(config, "ledger").level is Level.ERROR


@contextmanager
def running(config: Config, listens: Any, status: Any = None) -> Iterator[None]:
    """A Locum that says of itself that it listens there."""
    with ControlPeer(config.state_dir, listeners=listens, status=status):
        yield
    (config.state_dir / SOCKET_NAME).unlink()


@pytest.mark.parametrize(
    ("own", "level", "said"),
    [
        ({}, Level.OK, "by the Locum that runs here, as it should be"),
        ({"address": "0.0.0.0"}, Level.OK, "by the Locum that runs here, as it should be"),
        ({"address": "127.0.0.2"}, Level.ERROR, "by another program, not by the Locum that runs here (see: ss -lntup)"),
        ({"port": 1}, Level.ERROR, "by another program, not by the Locum that runs here (see: ss -lntup)"),
        ({"kind": "tcp"}, Level.ERROR, "by another program, not by the Locum that runs here (see: ss -lntup)"),
        (ValueError("no such command"), Level.WARNING, "by the Locum that runs here or by another program"),
        (None, Level.ERROR, "by another program (see: ss -lntup)"),
    ],
)
def test_a_port_in_use_is_an_error_unless_our_own_locum_listens_there(
    tmp_path: Path, own: Any, level: Level, said: str
) -> None:
    """`own`: how what it says of itself differs from the port in question; None: no Locum runs."""
    config = config_for(tmp_path)
    listen = config.listens[0]
    assert isinstance(listen, RadiusListenConfig)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound, ExitStack() as stack:
        bound.bind((listen.bind, listen.auth_port))
        if own is not None:
            place = {"address": listen.bind, "port": listen.auth_port, "kind": "udp"}
            stack.enter_context(running(config, [{**place, **own}] if isinstance(own, dict) else own))
        finding = only(config, f"listen {listen.bind} port {listen.auth_port}")
    assert finding.level is level
    assert said in finding.text


def test_a_locum_that_runs_and_does_not_answer_is_an_error(tmp_path: Path) -> None:
    config = config_for(tmp_path)
    with running(config, [], status=ValueError("the appliance met a bug; its log says where")):
        assert only(config, "appliance") == Finding(
            Level.ERROR, "appliance", "the appliance met a bug; its log says where"
        )


def test_an_address_of_another_machine_cannot_be_listened_on(tmp_path: Path) -> None:
    finding = found(config_for(tmp_path, listen="192.0.2.1"), "listen 192.0.2.1")[0]
    assert finding.level is Level.ERROR
    assert "is no address of this machine" in finding.text


def test_the_clock_and_the_disk_are_looked_at(tmp_path: Path) -> None:
    config = config_for(tmp_path)
    assert only(config, "clock").text.startswith("it says ")
    assert " free at " in only(config, "disk").text


MIB = 1 << 20


@pytest.mark.parametrize(
    ("free", "reserve", "level", "said"),
    [
        (500, 8, Level.OK, "524.3 MB of 1.0 GB free at"),
        (99, 8, Level.WARNING, "less than 10 %; make room before"),
        (107, 0, Level.WARNING, "less than 10 %; make room before"),
        (49, 8, Level.WARNING, "less than 5 %; make room now"),
        (11, 0, Level.ERROR, "3.1 MB of 1.0 GB free at"),
        (3, 8, Level.ERROR, "it is full, and nothing new is kept, acknowledged or granted; make room now"),
    ],
)
def test_the_disk_is_judged_by_the_levels_of_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, reserve: int, level: Level, said: str
) -> None:
    """In MiB of 1,000; the room that the reserve will need again counts as used."""
    config = config_for(tmp_path)
    (config.state_dir / "reserve").write_bytes(b"x" * (reserve * MIB))
    monkeypatch.setattr(space, "measured", lambda folder: (1000 * MIB, free * MIB))
    finding = only(config, "disk")
    assert finding.level is level
    assert said in finding.text


def test_a_disk_that_is_full_for_the_locum_that_runs_is_full(tmp_path: Path) -> None:
    """It gave its reserve back, and takes nothing new until twice the limit is free."""
    config = config_for(tmp_path)
    with running(config, [], status={"storage": {"level": "full", "error": "cannot store: the disk is full"}}):
        assert only(config, "disk").level is Level.ERROR
        assert "cannot store: the disk is full" in only(config, "storage").text


@pytest.mark.parametrize(
    ("changes", "what", "said"),
    [
        ({"secret": "short"}, "upstream hq", "less than 16 characters"),
        ({"upstream": "require_message_authenticator = false"}, "upstream hq", "CVE-2024-3596"),
        ({"client": ", require_message_authenticator = false"}, "client 10.7.0.0/24", "CVE-2024-3596"),
        ({"client": ", ignore_password_offline = true"}, "client 10.7.0.0/24", "passwords are not checked offline"),
        ({"more": "[offline]\nenabled = false"}, "offline", "is switched off"),
        ({"more": "[offline]\ndelay = 0"}, "offline", "goes offline at the first failed contact"),
    ],
)
def test_risky_settings_are_warned_of(tmp_path: Path, changes: dict[str, str], what: str, said: str) -> None:
    findings = found(config_for(tmp_path, **changes), what)  # type: ignore[arg-type]
    assert any(finding.level is Level.WARNING and said in finding.text for finding in findings)


def test_the_mapping_of_page_counts_must_name_known_attributes(tmp_path: Path) -> None:
    assert only(config_for(tmp_path), "dictionary").level is Level.OK
    mapping = '[radius.job]\npages = "Vendor-Total-Pages"\n'
    assert "names no known attribute" in only(config_for(tmp_path, more=mapping), "dictionary").text
    (tmp_path / "dictionary.vendor").write_text(
        "VENDOR Vendor 20712\nBEGIN-VENDOR Vendor\nATTRIBUTE Vendor-Total-Pages 9 integer\nEND-VENDOR Vendor\n"
    )
    with_file = '[radius]\ndictionary_files = ["dictionary.vendor"]\n' + mapping
    assert only(config_for(tmp_path, more=with_file), "dictionary").level is Level.OK
    (tmp_path / "dictionary.vendor").write_text("NONSENSE\n")
    assert "cannot be read" in only(config_for(tmp_path, more=with_file), "dictionary").text


def test_a_real_freeradius_is_proven(tmp_path: Path, make_server: Callable[..., object]) -> None:
    real = make_server()
    config = config_for(
        tmp_path,
        real.auth_port,  # type: ignore[attr-defined]
        real.acct_port,  # type: ignore[attr-defined]
        secret=real.secret.decode(),  # type: ignore[attr-defined]
    )
    assert found(config, "upstream hq, 127.0.0.1:")[0].level is Level.OK


def test_check_changes_nothing_and_shows_no_traceback(tmp_path: Path) -> None:
    file = config_file(tmp_path, 9, 9)
    before = sorted(tmp_path.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-m", "appliance", "check", "-c", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert done.stderr == ""
    assert sorted(tmp_path.rglob("*")) == before
