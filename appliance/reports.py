"""What leaves the box: alarms to syslog servers, figures to Prometheus; each only where it is configured."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from appliance.alerts import Alerts
from appliance.config import Config, MetricsConfig
from appliance.rates import Rates
from proxy.commands import Tell

if TYPE_CHECKING:
    from appliance.metrics import Metrics


class Reports:
    """`alarm` and `observe` are for the driver. `dropped`: alarms that no server took."""

    def __init__(self, reactor: Any, config: Config) -> None:
        self.rates = Rates()
        self.observe = self.rates.observe
        self._reactor = reactor
        self._alerts: Alerts | None = None
        self._metrics: Metrics | None = None
        self._read: Callable[[], dict[str, Any]] = dict
        self._config = config
        self._alert(config)

    def alarm(self, tell: Tell) -> None:
        """A line that leaves the box at once."""
        if self._alerts is not None:
            self._alerts.send(tell)

    def open(self, read: Callable[[], dict[str, Any]]) -> None:
        """Let Prometheus ask; `read` gives the object of `locum status --json`. Raises OSError."""
        self._read = read
        if self._config.metrics is not None:
            self._metrics = self._listen(self._config.metrics)

    def configure(self, config: Config) -> None:
        """A reload. Raises OSError if the port for Prometheus cannot be had; what was in force stays so then."""
        if config.metrics != self._config.metrics:
            fresh = None if config.metrics is None else self._listen(config.metrics)
            if self._metrics is not None:
                self._metrics.stop()
            self._metrics = fresh
        before, self._config = self._config, config
        if (config.alerts, config.name) != (before.alerts, before.name):
            if self._alerts is not None:
                self._alerts.stop()
            self._alert(config)

    @property
    def figures_at(self) -> MetricsConfig | None:
        """Where Prometheus asks now."""
        return self._config.metrics

    def stop(self) -> None:
        """End both."""
        for each in (self._alerts, self._metrics):
            if each is not None:
                each.stop()

    def losses(self) -> dict[str, int]:
        """Alarms that could not be sent."""
        return {"alarm-not-sent": self._alerts.dropped} if self._alerts is not None and self._alerts.dropped else {}

    def _alert(self, config: Config) -> None:
        targets = config.alerts.syslog
        self._alerts = Alerts(self._reactor, targets, config.name) if targets else None

    def _listen(self, wanted: MetricsConfig) -> Metrics:
        from appliance.metrics import Metrics

        metrics = Metrics(self._reactor, self._read, self.rates)
        metrics.listen(wanted.bind, wanted.port)
        return metrics
