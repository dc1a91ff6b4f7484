"""What can be judged from the configuration alone: secrets, risky settings, the mapping of page counts."""

from collections.abc import Iterator
from ipaddress import ip_address

from appliance.check.findings import Finding, error, ok, warning
from appliance.config import (
    Config,
    PapercutUpstreamConfig,
    RadiusConfig,
    RadiusListenConfig,
    RadiusUpstreamConfig,
    Secret,
    TerminalListenConfig,
)
from appliance.state_dir import StateDirError, unlock_hash
from protocols.errors import ProtocolError
from protocols.radius.dictionary import Dictionary, parse_dictionary, shipped_dictionary

SHORT_SECRET = 16
"""RFC 2865 section 3 wants a shared secret of 16 octets or more."""


def findings(config: Config) -> Iterator[Finding]:
    """Secrets, then what crosses the network in the clear, then offline rules, then the dictionary."""
    yield from _secrets(config)
    yield from _in_the_clear(config)
    for listen in config.listens:
        if isinstance(listen, RadiusListenConfig):
            yield from _clients(listen)
    yield from _offline(config)
    if any(isinstance(listen, RadiusListenConfig) for listen in config.listens):
        yield _mapping(config.radius)


def _secrets(config: Config) -> Iterator[Finding]:
    short = [named for named in _all_secrets(config) if len(named[2].value) < SHORT_SECRET]
    for what, kind, _ in short:
        text = f"its {kind} has less than {SHORT_SECRET} characters and could be guessed; make it longer"
        yield warning(what, text)
    if not short:
        yield ok("secrets", "are closed to others and long enough")


def _all_secrets(config: Config) -> Iterator[tuple[str, str, Secret]]:
    for upstream in config.upstreams:
        if isinstance(upstream, RadiusUpstreamConfig):
            yield f"upstream {upstream.name}", "secret", upstream.secret
        elif isinstance(upstream, PapercutUpstreamConfig):
            yield f"upstream {upstream.name}", "token", upstream.token
    for listen in config.listens:
        if isinstance(listen, RadiusListenConfig):
            yield from ((f"client {client.network}", "secret", client.secret) for client in listen.clients)


def _in_the_clear(config: Config) -> Iterator[Finding]:
    for upstream in config.upstreams:
        what = f"upstream {upstream.name}"
        if isinstance(upstream, RadiusUpstreamConfig) and upstream.require_message_authenticator == "false":
            yield warning(
                what,
                "answers without Message-Authenticator are taken for ever, so who sits on the way can forge them "
                '(CVE-2024-3596); set require_message_authenticator = "auto"',
            )
        if isinstance(upstream, PapercutUpstreamConfig) and upstream.tls is None and not _is_here(upstream.host):
            yield warning(what, 'the token crosses the network in the clear; write url = "https://..."')
    for listen in config.listens:
        if isinstance(listen, TerminalListenConfig) and listen.tls is None and not _is_here(listen.bind):
            what = f"listen {listen.bind} port {listen.port}"
            yield warning(what, "cards and unlock codes cross the network in the clear; set tls if the terminals can")


def _is_here(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _clients(listen: RadiusListenConfig) -> Iterator[Finding]:
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
    yield _limits(config)
    yield from _unlock_code(config)
    yield from _pins(config)


def _limits(config: Config) -> Finding:
    rules = [config.offline, *(device.offline for device in config.devices)]
    units = {
        "max_pages_per_card": "pages a card",
        "max_sessions_per_card": "sessions a card",
        "max_outage_hours": "hours",
    }
    if all(getattr(rule, key) is None for rule in rules for key in units):
        text = "all limits are off, so an outage may cost any number of pages; see max_pages_per_card in [offline]"
        return warning("offline", text)
    given = [f"{getattr(config.offline, key):,} {unit}" for key, unit in units.items() if getattr(config.offline, key)]
    return ok("offline", f"an outage has at most {', '.join(given)}" if given else "are set for some devices only")


def _unlock_code(config: Config) -> Iterator[Finding]:
    if all(rules.environment == "commercial" for rules in (config.offline, *(each.offline for each in config.devices))):
        return
    try:
        is_set = bool(unlock_hash(config.state_dir))
    except StateDirError as problem:
        yield error("unlock code", str(problem))
        return
    if is_set:
        yield ok("unlock code", "is set")
    else:
        text = 'none is set, and environment is "education": nobody can be let in until you run: locum unlock-code set'
        yield warning("unlock code", text)


def _pins(config: Config) -> Iterator[Finding]:
    """A certificate can only be asked of a terminal where there is an authority to judge it."""
    asked = any(
        isinstance(listen, TerminalListenConfig) and listen.tls is not None and listen.tls.ca
        for listen in config.listens
    )
    for device in config.devices:
        if device.certificate and not asked:
            text = (
                "has certificate_sha256, but no listener asks for certificates; set client_ca_file in tls of [[listen]]"
            )
            yield warning(f"device {device.id}", text)


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
