"""What is known of contact with one address of a PaperCut server."""

from __future__ import annotations

from proxy.contact import Contact, Steadiness


class Host:
    """One address. `strange`: in words, what it last answered that proves nothing; "" since it was heard."""

    def __init__(self, address: str, fingerprint: str, timeout: float, recover_after: int) -> None:
        self.address = address
        self.fingerprint = fingerprint
        self.contact = Contact(timeout)
        self.steadiness = Steadiness(recover_after)
        self.failed = False
        self.probe_now = False
        self.strange = ""
