"""The simulated server's Web Services, as independent clients use them: xmlrpc.client and the package of PyPI."""

import importlib
import importlib.util
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy, dumps, loads

import pytest

from tests.peers.ports import LOOPBACK
from tests.peers.simulated import TOKEN, SimulatedServer
from tests.peers.skips import need_shared_data, skip

ANNA, CARLA_TOO, NOBODY = "04A1C3F2", "88120045", "7E57C0DE"
JOB = "server=device,printer=copier-1,time=20261122T101112"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedServer]:
    running = SimulatedServer(tmp_path_factory.mktemp("server")).secure().start()
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()


@pytest.fixture(params=["http", "https"])
def papercut(request: pytest.FixtureRequest, server: SimulatedServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package's own client, connected in the way that it knows."""
    if importlib.util.find_spec("papercut_xml_webservices_api") is None:
        skip("papercut-xml-webservices-api is not installed")
    monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
    proxy = importlib.import_module("papercut_xml_webservices_api.ServerCommand.ServerCommandProxy")
    secure = request.param == "https"
    port = server.tls_port if secure else server.xmlrpc_port
    client = proxy.ServerCommandProxy(host=server.address, port=port, ssl=secure)
    client.__enter__()
    return client


def new_user(server: SimulatedServer, name: str, card: str = "") -> str:
    server.api().addNewInternalUser(TOKEN, name, "", name.title(), "", card, "")
    return name


# --- clients of others --------------------------------------------------------------------------------------------


def test_the_package_of_pypi_works_unchanged(papercut: Any, server: SimulatedServer) -> None:
    user = f"pypi-{papercut.port}"
    assert papercut.getTotalUsers(TOKEN) >= 24
    papercut.addNewInternalUser(TOKEN, user, "secret", "Some One", "one@example.org", f"C{papercut.port}", 1234)
    assert papercut.isUserExists(TOKEN, user) is True
    assert papercut.lookUpUserNameByCardNo(TOKEN, f"c{papercut.port}") == user
    assert papercut.lookUpUserNameByEmail(TOKEN, "ONE@example.org") == user
    papercut.setUserProperty(TOKEN, user, "office", "East Wing")
    papercut.setUserProperties(TOKEN, user, [["balance", "1.20"], ["notes", "a, b"]])
    names = ["balance", "office", "notes", "internal"]
    assert papercut.getUserProperties(TOKEN, user, names) == ["1.20", "East Wing", "a, b", "true"]
    papercut.adjustUserAccountBalance(TOKEN, user, 2.5, comment="gift")
    assert papercut.getUserAccountBalance(TOKEN, user) == 3.7
    papercut.processJob(TOKEN, f"user={user},{JOB},total-pages=4")
    assert papercut.getUserProperty(TOKEN, user, "print-stats.page-count") == "4"
    assert papercut.getUserAccountBalance(TOKEN, user) == 3.3
    papercut.setConfigValue(TOKEN, f"lab.{user}", "yes")
    assert papercut.getConfigValue(TOKEN, f"lab.{user}") == "yes"
    assert "device\\copier-1" in papercut.listPrinters(TOKEN)
    assert papercut.isGroupExists(TOKEN, "nobodies") is False
    assert papercut.getTaskStatus(TOKEN)["completed"] is True
    papercut.deleteExistingUser(TOKEN, user, False)
    assert papercut.isUserExists(TOKEN, user) is False


@pytest.mark.parametrize("method", ["addNewGroup", "setGroupQuota", "noSuchThing"])
def test_a_method_that_is_not_there_is_a_fault(server: SimulatedServer, method: str) -> None:
    with pytest.raises(Fault, match=f"NoSuchMethodException: there is no method api.{method}"):
        getattr(server.api(), method)(TOKEN, "x")


def test_all_users_are_listed_in_pages_and_a_short_page_is_the_last(server: SimulatedServer) -> None:
    api, listed = server.api(), []
    while page := api.listUserAccounts(TOKEN, len(listed), 10):
        listed += page
    assert len(listed) == api.getTotalUsers(TOKEN)
    assert listed == sorted(listed)
    assert api.listUserAccounts(TOKEN, 10_000, 10) == []


def posted(server: SimulatedServer, body: bytes, **headers: str) -> Any:
    """What comes back for a body as it is, with no header but these."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(server.url, body, names, method="POST")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return loads(answer.read())[0][0]


SHAPES = {
    "bare": f"<value>{TOKEN}</value>",
    "string": f"<value><string>{TOKEN}</string></value>",
    "blanks": f"<value>\n      <string>{TOKEN}</string>\n    </value>",
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("before", ['<?xml version="1.0"?>', "", "\n   ", '\n<?xml version="1.0" encoding="utf-8"?>\n'])
@pytest.mark.parametrize("kind", ["text/xml", "application/x-www-form-urlencoded", ""])
def test_the_shapes_that_real_clients_send_are_taken(
    server: SimulatedServer, shape: str, before: str, kind: str
) -> None:
    need_shared_data()
    shapes = need_shared_data() / "papercut" / "xmlrpc-request-shapes.tsv"
    assert "untyped = string" in shapes.read_text("utf-8")
    body = (
        f"{before}<methodCall><methodName>api.isUserExists</methodName>\n<params>\n<param>{SHAPES[shape]}</param>"
        "<param><value>aberg</value></param></params></methodCall>\n"
    )
    assert posted(server, body.encode(), Content_Type=kind) is True


@pytest.mark.parametrize("offset", ["<value>0</value>", "<value><int>0</int></value>", "<value><i4>0</i4></value>"])
def test_counts_may_come_without_a_type(server: SimulatedServer, offset: str) -> None:
    body = (
        "<methodCall><methodName>api.listUserAccounts</methodName><params>"
        f"<param><value>{TOKEN}</value></param><param>{offset}</param><param><value><int>2</int></value></param>"
        "</params></methodCall>"
    )
    assert posted(server, body.encode()) == ["aberg", "bnowak"]


def test_nil_is_taken_and_a_body_may_be_gzip(server: SimulatedServer) -> None:
    import gzip

    user = "nil-user"
    body = dumps((TOKEN, user, "", None, None, None, None), "api.addNewInternalUser", allow_none=True).encode()
    assert posted(server, gzip.compress(body), Content_Encoding="gzip", Accept_Encoding="gzip") is True
    assert server.api().getUserProperties(TOKEN, user, ["full-name", "email"]) == [user, ""]


# --- who may call -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "good", "bad"),
    [
        ("one", ["one"], ["two", "", TOKEN]),
        ('["one", "two"]', ["one", "two"], ['["one", "two"]']),
        ('{"locum": "one", "portal": "two"}', ["one", "two"], ["locum"]),
    ],
)
def test_the_token_is_a_string_a_list_or_an_object(tmp_path: Path, given: str, good: list[str], bad: list[str]) -> None:
    server = SimulatedServer(tmp_path, "--token", given).start()
    try:
        assert [server.api().getTotalUsers(token) for token in good] == [24] * len(good)
        for token in bad:
            with pytest.raises(Fault, match="SecurityException: the authentication token is wrong"):
                server.api().getTotalUsers(token)
    finally:
        assert server.stop() == 0


def test_a_refused_address_is_a_fault_before_the_token_is_looked_at(tmp_path: Path) -> None:
    server = SimulatedServer(tmp_path, "--allow", "10.0.0.0/8", "--allow", "192.0.2.7").start()
    try:
        with pytest.raises(Fault, match=r"java.lang.SecurityException: calls from 127.0.0.1 are not allowed"):
            server.api().getTotalUsers("wrong")
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(server.url.replace("/rpc/api/xmlrpc", "/"), timeout=5)
    finally:
        assert server.stop() == 0


def test_a_task_status_needs_no_token(server: SimulatedServer) -> None:
    assert server.api().getTaskStatus() == server.api().getTaskStatus(TOKEN)
    with pytest.raises(Fault, match="token"):
        server.api().getTaskStatus("wrong")


def test_the_health_api_wants_the_token_as_its_key(server: SimulatedServer) -> None:
    url = server.url.replace("/rpc/api/xmlrpc", "/api/health")
    request = urllib.request.Request(url, headers={"Authorization": TOKEN})
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert json.load(answer)["database"] == {"status": "OK"}
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(url, timeout=5)


# --- users, cards, settings ---------------------------------------------------------------------------------------


def test_a_card_is_looked_up_by_either_number(server: SimulatedServer) -> None:
    look = server.api().lookUpUserNameByCardNo
    assert [look(TOKEN, card) for card in (ANNA, ANNA.lower(), CARLA_TOO, NOBODY, "")] == [
        "aberg", "aberg", "cdiaz", "", ""
    ]  # fmt: skip


def test_a_user_who_is_there_cannot_be_added_again(server: SimulatedServer) -> None:
    with pytest.raises(Fault, match=r"java.lang.IllegalArgumentException: user ABERG exists already"):
        server.api().addNewInternalUser(TOKEN, "ABERG", "", "", "", "", "")


def test_a_card_belongs_to_one_person(server: SimulatedServer) -> None:
    user = new_user(server, "card-thief", "CAFE01")
    with pytest.raises(Fault, match="belongs to aberg"):
        server.api().addNewInternalUser(TOKEN, "another-thief", "", "", "", ANNA, "")
    with pytest.raises(Fault, match="belongs to somebody else"):
        server.api().setUserProperty(TOKEN, user, "secondary-card-number", ANNA)
    server.api().setUserProperty(TOKEN, user, "primary-card-number", "CAFE02")
    look = server.api().lookUpUserNameByCardNo
    assert [look(TOKEN, card) for card in ("CAFE01", "CAFE02")] == ["", user]
    assert server.api().isUserExists(TOKEN, "another-thief") is False


def test_properties_are_strings_and_unknown_ones_are_faults(server: SimulatedServer) -> None:
    names = ["balance", "restricted", "disabled-print", "full-name", "primary-card-number", "secondary-card-number"]
    told = server.api().getUserProperties(TOKEN, "eokoye", names)
    assert told == ["3.75", "true", "false", "Emeka Okoye", "04A1C3F6", ""]
    for name, words in (("shoe-size", "no property shoe-size"), ("print-stats.job-count", "can be set")):
        with pytest.raises(Fault, match=words):
            server.api().setUserProperty(TOKEN, "eokoye", name, "1")
    with pytest.raises(Fault, match="user nobody does not exist"):
        server.api().getUserProperty(TOKEN, "nobody", "balance")


def test_if_one_property_is_wrong_none_is_set(server: SimulatedServer) -> None:
    user = new_user(server, "half-set")
    with pytest.raises(Fault, match="neither true nor false"):
        server.api().setUserProperties(TOKEN, user, [["office", "x"], ["restricted", "perhaps"]])
    assert server.api().getUserProperty(TOKEN, user, "office") == ""


def test_a_renamed_user_keeps_everything(server: SimulatedServer) -> None:
    user = new_user(server, "maiden", "BEEF01")
    server.api().renameUserAccount(TOKEN, user, "married")
    assert server.api().lookUpUserNameByCardNo(TOKEN, "beef01") == "married"
    assert server.api().isUserExists(TOKEN, user) is False
    assert server.query("SELECT username FROM users WHERE card = 'BEEF01'") == [("married",)]


def test_a_config_value_that_nobody_set_is_empty(server: SimulatedServer) -> None:
    assert server.api().getConfigValue(TOKEN, "ext-device.unknown-offline-username") == ""


# --- jobs ---------------------------------------------------------------------------------------------------------


def test_a_job_is_logged_and_charged(server: SimulatedServer) -> None:
    user = new_user(server, "worker")
    record = "0199a1b2-0000-7000-8000-000000000001"
    server.api().processJob(
        TOKEN,
        f'user={user},{JOB},total-pages=7,total-color-pages=2,copies=1,job-type=COPY,"document-name=a, ""b""",'
        f"comment=locum:{record}",
    )
    server.api().processJob(TOKEN, f"user={user},{JOB},total-pages=2,cost=1.5,job-type=SCAN")
    assert server.query(
        "SELECT via, user, server, device, kind, pages, color_pages, copies, document, time, cost, record_id FROM jobs "
        "WHERE user = 'worker' ORDER BY number"
    ) == [
        *[("xmlrpc", user, "device", "copier-1", "copy", 7, 2, 1, 'a, "b"', "20261122T101112", "0.70", record)],
        *[("xmlrpc", user, "device", "copier-1", "scan", 2, 0, 1, "", "20261122T101112", "1.5", "")],
    ]
    names = ["balance", "print-stats.job-count", "print-stats.page-count"]
    assert server.api().getUserProperties(TOKEN, user, names) == ["-2.20", "2", "9"]
    assert server.query("SELECT amount, balance, kind FROM transactions WHERE user = 'worker' ORDER BY number") == [
        ("-0.70", "-0.70", "job"),
        ("-1.5", "-2.20", "job"),
    ]


def test_a_job_without_pages_is_not_logged(server: SimulatedServer) -> None:
    user = new_user(server, "idler")
    server.api().processJob(TOKEN, f"user={user},{JOB},total-pages=0")
    assert server.query("SELECT * FROM jobs WHERE user = 'idler'") == []
    assert server.api().getUserProperty(TOKEN, user, "print-stats.job-count") == "0"


def test_a_job_that_comes_twice_is_named(server: SimulatedServer) -> None:
    user = new_user(server, "twice")
    for _ in range(2):
        server.api().processJob(TOKEN, f"user={user},{JOB},total-pages=1,comment=locum:same-id")
    assert server.query("SELECT record_id, times FROM jobs_twice") == [("same-id", 2)]


def test_an_unknown_user_or_printer_is_a_fault_or_created(tmp_path: Path) -> None:
    server = SimulatedServer(tmp_path, "--printer", "copier-1", "--printer", r"print-1\Office").start()
    try:
        api = server.api()
        with pytest.raises(Fault, match="user ghost does not exist"):
            api.processJob(TOKEN, f"user=ghost,{JOB}")
        with pytest.raises(Fault, match="copier-9 does not exist"):
            api.processJob(TOKEN, "user=aberg,server=device,printer=copier-9")
        api.processJob(TOKEN, "user=aberg,server=print-1,printer=Office")
        server.switch(unknown_user="create", unknown_printer="create")
        api.processJob(TOKEN, "user=ghost,server=device,printer=copier-9")
        assert api.isUserExists(TOKEN, "ghost") is True
        assert api.listPrinters(TOKEN, 0, 9) == [r"device\copier-1", r"device\copier-9", r"print-1\Office"]
        assert server.query("SELECT message FROM app_log") == [("User ghost was created.",)]
    finally:
        assert server.stop() == 0


def test_radius_and_web_services_have_one_set_of_users(server: SimulatedServer) -> None:
    server.api().addNewInternalUser(TOKEN, "both", "", "Both Ways", "", "B07B07", "")
    answer = server.copier().swipe("b07b07")
    assert answer is not None
    assert answer.words == "Welcome, Both Ways"
    server.api().setUserProperty(TOKEN, "both", "disabled-print", "TRUE")
    again = server.copier().swipe("b07b07")
    assert again is not None
    assert again.kind == "reject"


# --- the page -----------------------------------------------------------------------------------------------------


def test_the_page_shows_everything_and_escapes_it(server: SimulatedServer) -> None:
    user = new_user(server, "<script>alert(1)</script>")
    server.api().processJob(TOKEN, f"user={user},{JOB},document-name=<b>&x</b>")
    server.api().setConfigValue(TOKEN, "<i>", "<u>")
    with urllib.request.urlopen(server.url.replace("/rpc/api/xmlrpc", "/"), timeout=5) as answer:
        page = answer.read().decode()
    assert not [tag for tag in ("<script>", "<b>", "<i>", "<u>") if tag in page]
    for shown in ("&lt;script&gt;alert(1)&lt;/script&gt;", "&lt;b&gt;&amp;x&lt;/b&gt;", "Anna Berg", "was created"):
        assert shown in page


def test_the_tls_port_shows_the_certificate_that_was_given(server: SimulatedServer) -> None:
    import ssl

    context = ssl.create_default_context(cafile=str(server.certificate))
    secure = ServerProxy(f"https://{LOOPBACK[4]}:{server.tls_port}/rpc/api/xmlrpc", context=context)
    assert secure.api.isUserExists(TOKEN, "aberg") is True
