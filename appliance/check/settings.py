"""What can be judged from the configuration alone: secrets, risky settings, the mapping of page counts."""

from collections.abc import Iterator

from appliance.check.findings import Finding, error, ok, warning
from appliance.config import Config, ListenConfig, RadiusConfig, Secret
from protocols.errors import ProtocolError
from protocols.radius.dictionary import Dictionary, parse_dictionary, shipped_dictionary

SHORT_SECRET = 16
"""RFC 2865 section 3 wants a shared secret of 16 octets or more."""


def findings(config: Config) -> Iterator[Finding]:
    """Secrets, then offline rules, then the dictionary."""
    yield from _secrets(config)
    for listen in config.listens:
        yield from _clients(listen)
    yield from _offline(config)
    yield _mapping(config.radius)


def _secrets(config: Config) -> Iterator[Finding]:
    short = 0
    for upstream in config.upstreams:
        if _is_short(upstream.secret):
            short += 1
            yield _short(f"upstream {upstream.name}")
        if upstream.require_message_authenticator == "false":
            yield warning(
                f"upstream {upstream.name}",
                "answers without Message-Authenticator are taken for ever, so who sits on the way can forge them "
                '(CVE-2024-3596); set require_message_authenticator = "auto"',
            )
    for listen in config.listens:
        for client in listen.clients:
            if _is_short(client.secret):
                short += 1
                yield _short(f"client {client.network}")
    if not short:
        yield ok("secrets", "are closed to others and long enough")


def _is_short(secret: Secret) -> bool:
    return len(secret.value) < SHORT_SECRET


def _short(what: str) -> Finding:
    return warning(what, f"its secret has less than {SHORT_SECRET} characters and could be guessed; make it longer")


def _clients(listen: ListenConfig) -> Iterator[Finding]:
    for client in listen.clients:
        what = f"client {client.network}"
        if not client.require_message_authenticator:
            yield warning(
                what,
                "logins without Message-Authenticator are taken (CVE-2024-3596); set "
                "require_message_authenticator = true once its devices send it",
            )
        if client.ignore_password_offline:
            yield warning(what, "passwords are not checked offline; whoever knows a card number can log in with it")


def _offline(config: Config) -> Iterator[Finding]:
    offline = config.offline
    if not offline.enabled and not any(device.offline.enabled for device in config.devices):
        yield warning("offline", "is switched off: nobody is let in while a server is away; set enabled = true")
        return
    if offline.delay == 0:
        yield warning("offline", 'delay = 0 goes offline at the first failed contact; a reboot needs about "60s"')
    if offline.admission == "any-card":
        yield ok("offline", "any card is let in while the server is away")
    else:
        yield ok("offline", "only cards that logged in while the server was there are let in while it is away")
    yield warning(
        "offline",
        "all limits are off: pages, sessions and hours without the server are not limited (this version has none)",
    )


def _mapping(radius: RadiusConfig) -> Finding:
    try:
        dictionary = _dictionary(radius)
    except (ProtocolError, OSError, UnicodeDecodeError) as problem:
        return error("dictionary", f"cannot be read ({problem}); correct dictionary_files in [radius]")
    for field, name in radius.job.items():
        try:
            dictionary.attribute(name)
        except ProtocolError:
            return error(
                "dictionary", f'[radius.job] {field} = "{name}" names no known attribute; add its dictionary_files'
            )
    return ok("dictionary", f"all {len(radius.job)} fields of a job are mapped to known attributes")


def _dictionary(radius: RadiusConfig) -> Dictionary:
    dictionary = shipped_dictionary()
    for file in radius.dictionary_files:
        dictionary = parse_dictionary(file.read_text("utf-8"), dictionary)
    return dictionary
