"""The text of a first configuration: what was answered, and beside it, switched off, what most people look for next."""

import json

from appliance.init.answers import Answers

COPIERS = "copiers.secret"
CERTIFICATE, KEY = "terminal.crt", "terminal.key"


def secret_name(answers: Answers) -> str:
    """The file of the server's secret; "" where the dialect has none."""
    ending = {"radius": "secret", "papercut": "token"}.get(answers.dialect)
    return f"{answers.upstream_name}.{ending}" if ending else ""


def configuration(answers: Answers) -> str:
    """The whole file. Paths of secrets are relative: they lie beside it."""
    parts = [_head(answers), _upstream(answers), *(_listen(answers, dialect) for dialect in answers.listens)]
    return "\n".join([*parts, _offline(answers), _rest(answers)])


def _head(answers: Answers) -> str:
    return f"""\
# Locum's configuration, written by `locum init`. Every key is in docs/configuration.md.
# After a change: locum check, then systemctl reload locum. Paths without a leading / are counted from here.

[appliance]
name = {_text(answers.name)}
state_dir = {_text(str(answers.state_dir))}  # the ledger, the installation's key, the control socket
"""


def _upstream(answers: Answers) -> str:
    head = f"""\
[[upstream]]  # the Application Server
name = {_text(answers.upstream_name)}
dialect = {_text(answers.dialect)}
"""
    if answers.dialect == "radius":
        return (
            head
            + f"""\
address = {_text(answers.address)}  # or a list: the first that answers
secret_file = {_text(secret_name(answers))}
# auth_port = 1812
# accounting_port = 1813
# test_login = {{ user = "probe", password_file = "probe.password" }}  # where Status-Server is not answered
"""
        )
    if answers.dialect == "terminal":
        return (
            head
            + f"""\
address = {_text(answers.address)}
port = {answers.upstream_port}
# tls = {{ ca_file = "server-ca.pem" }}
"""
        )
    ca = (
        f"ca_file = {_text(str(answers.ca_file))}\n"
        if answers.ca_file
        else '# ca_file = "server-ca.pem"  # a private one\n'
    )
    return (
        head
        + f"""\
url = {_text(answers.url)}
token_file = {_text(secret_name(answers))}  # the server's auth.webservices.auth-token
{ca}time_zone = {_text(answers.time_zone)}  # the server's, for the times of jobs
# card_regex = "^;?([0-9A-F]+)"  # its first group is the card number
# card_converters = ["hex2dec"]
"""
    )


def _listen(answers: Answers, dialect: str) -> str:
    head = f"""\
[[listen]]  # where devices reach Locum
dialect = {_text(dialect)}
bind = {_text(answers.bind)}
upstream = {_text(answers.upstream_name)}
"""
    if dialect == "terminal":
        pair = f'tls = {{ certificate_file = "{CERTIFICATE}", key_file = "{KEY}" }}\n'
        return f"{head}port = 9790\n{pair if answers.tls else '# ' + pair}"
    clients = "".join(
        f"  {{ network = {_text(network)}, secret_file = {_text(COPIERS)} }},\n" for network in answers.networks
    )
    return f"{head}clients = [\n{clients}]\n"


def _offline(answers: Answers) -> str:
    code = "  # unlocked with a code: locum unlock-code set" if answers.environment == "education" else ""
    return f"""\
[offline]  # the rules while the server is away
environment = {_text(answers.environment)}{code}
delay = {_text(answers.delay)}  # from the first failed contact to offline mode
admission = "any-card"  # or "known-cards": only those that logged in before
# max_pages_per_card = 200
# max_sessions_per_card = 20
# max_outage_hours = 24
"""


def _rest(answers: Answers) -> str:
    return """\
# [[device]]  # only where a device differs
# id = "KM-A4F-000123"
# printer = "Library copier"  # its name at the server
# offline = { admission = "known-cards" }

# [alerts]
# syslog = "udp://10.0.0.9:514"

# [ledger]
# keep_personal = "365d"  # cards, users, documents are erased after so long; without it they are kept
# time_zone = "Europe/Berlin"  # for exports and reports; else this machine's

# [metrics]
# bind = "127.0.0.1"
# port = 9464
"""


def _text(value: str) -> str:
    """A TOML string; those of JSON are TOML's too."""
    return json.dumps(value, ensure_ascii=False)
