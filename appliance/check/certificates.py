"""When the certificates that the configuration names run out."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from appliance.check.findings import Finding, error, ok, warning
from appliance.config import Config, PapercutUpstreamConfig, TerminalListenConfig, TerminalUpstreamConfig

SOON = timedelta(days=30)


def findings(config: Config) -> Iterator[Finding]:
    """A finding for each certificate of our own and each bundle of authorities that is named."""
    for what, pem, authority in _named(config):
        if pem:
            yield _finding(what, pem, authority, datetime.now(UTC))


def _named(config: Config) -> Iterator[tuple[str, bytes, bool]]:
    for upstream in config.upstreams:
        if isinstance(upstream, TerminalUpstreamConfig | PapercutUpstreamConfig) and upstream.tls is not None:
            yield f"upstream {upstream.name}, our certificate", upstream.tls.certificate, False
            yield f"upstream {upstream.name}, ca_file", upstream.tls.ca, True
    for listen in config.listens:
        if isinstance(listen, TerminalListenConfig) and listen.tls is not None:
            yield f"listen {listen.bind} port {listen.port}, certificate", listen.tls.certificate, False
            yield f"listen {listen.bind} port {listen.port}, client_ca_file", listen.tls.ca, True


def _finding(what: str, pem: bytes, authority: bool, now: datetime) -> Finding:
    """Of our own chain the first to run out counts; of several authorities the last."""
    from cryptography import x509

    certificates = x509.load_pem_x509_certificates(pem)
    ends = [each.not_valid_after_utc for each in certificates]
    until = max(ends) if authority else min(ends)
    begins = certificates[0].not_valid_before_utc
    if not authority and begins > now:
        return error(what, f"is good from {begins:%Y-%m-%d} only; look at the clock or make another")
    if until < now:
        return error(what, f"has run out on {until:%Y-%m-%d}; renew it and run: systemctl reload locum")
    if until - now < SOON:
        return warning(what, f"runs out on {until:%Y-%m-%d}; renew it and run: systemctl reload locum")
    return ok(what, f"is good until {until:%Y-%m-%d}")
