"""When contact with one address of a server has failed, and when contact is steady again.

Failed: a request and a probe sent at its half-time are both unanswered `timeout` after the request's first sending, and
nothing authentic was heard since; or the network refused, and refused a second probe sent at once. Retransmissions are
not told to this class: they move no clock. Steady: `recover_after` contacts in a row over at least two seconds.
What counts as authentic is the dialect's to say; this class knows times only.
"""

from __future__ import annotations

STEADY_OVER = 2.0
TRY_AGAIN = 0.5


class Contact:
    """The failed-contact rule for one address and port. All times are monotonic seconds.

    Only what was sent after the last thing heard can tell of a failure, and of that only the first matters.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.last_heard = float("-inf")
        self._unanswered_since: float | None = None
        self.probe_sent = float("-inf")
        self._half_time_probe: float | None = None
        self._confirming = False

    def sent(self, now: float) -> None:
        """A request that expects an answer was sent for the first time."""
        if self._unanswered_since is None:
            self._unanswered_since = now

    def probed(self, now: float) -> None:
        """A probe was sent: a request like any other, and the half-time probe of those before it."""
        self.probe_sent = now
        self.sent(now)
        first = self._unanswered_since
        if self._half_time_probe is None and first is not None and now >= first + self.timeout / 2:
            self._half_time_probe = now

    @property
    def heard_before(self) -> bool:
        """Whether anything authentic ever came from this address."""
        return self.last_heard > float("-inf")

    @property
    def waiting(self) -> bool:
        """Whether a request was sent since the last thing heard."""
        return self._unanswered_since is not None

    def asked(self, now: float) -> None:
        """Something was sent that this server may never answer: it proves nothing, and is tried again soon."""
        self.probe_sent = now

    def heard(self, now: float) -> None:
        """Something authentic came from this address: every request before it is off the hook."""
        self.last_heard = now
        self._forget()
        self._confirming = False

    def refused(self, *, probe: bool) -> str:
        """The network refused a request or a `probe`. What follows: "probe" (send one), "failed", or "" (wait)."""
        if not self._confirming:
            self._confirming = True
            return "probe"
        if not probe:
            return ""
        self._confirming = False
        self._forget()
        return "failed"

    def wants_probe(self, now: float, oldest: float | None = None) -> bool:
        """Whether a request reached its half-time unanswered, and no probe was sent since it did.

        `oldest` is the first sending of the oldest request still unanswered, whatever was heard since: it is asked
        after as well, though it cannot bring contact down by itself.
        """
        half, first = self.timeout / 2, self._unanswered_since
        if first is not None and first + half <= now and self._half_time_probe is None:
            return self.probe_sent < first + half or now >= self.probe_sent + TRY_AGAIN
        return oldest is not None and oldest + half <= now and self.probe_sent < oldest + half

    def has_failed(self, now: float) -> bool:
        """Whether contact has failed by silence; true once for each failure, what was sent before is then forgotten.

        The probe must have had half the time too: a process that was itself suspended blames nobody.
        """
        first, probed = self._unanswered_since, self._half_time_probe
        if first is None or probed is None or now < max(first + self.timeout, probed + self.timeout / 2):
            return False
        self._forget()
        return True

    def _forget(self) -> None:
        self._unanswered_since = self._half_time_probe = None


class Steadiness:
    """Counts contacts in a row, over all addresses of an upstream."""

    def __init__(self, recover_after: int) -> None:
        self.recover_after = recover_after
        self._row = 0
        self._since = 0.0
        self._last = 0.0

    def contact(self, now: float) -> bool:
        """One more contact; whether the row is steady now."""
        if self._row == 0:
            self._since = now
        self._row += 1
        self._last = now
        return self.steady

    def broken(self, sent: float | None = None) -> None:
        """The row ends. With `sent`: a probe sent then went unanswered, which counts if nothing was heard since."""
        if sent is None or sent > self._last:
            self._row = 0

    @property
    def succeeding(self) -> bool:
        """Whether the last thing known of the server is that it answers."""
        return self._row > 0

    @property
    def steady(self) -> bool:
        return self._row >= self.recover_after and self._last - self._since >= STEADY_OVER
