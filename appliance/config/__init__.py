"""The configuration file: TOML in, frozen values out, and every mistake named with its line.

`load` is the only way in. It either gives a whole `Config` or raises `ConfigError` with every problem it found;
there is no half-read configuration, so a reload with a mistake leaves the old one in force.
"""

from appliance.config.loading import MAX_BYTES, load, state_dir_of, time_zone_of
from appliance.config.values import (
    AlertsConfig,
    ClientConfig,
    Config,
    ConfigError,
    DeviceConfig,
    InlineConfig,
    LedgerConfig,
    ListenConfig,
    MetricsConfig,
    OfflineConfig,
    PapercutUpstreamConfig,
    Problem,
    RadiusConfig,
    RadiusListenConfig,
    RadiusUpstreamConfig,
    Secret,
    SyslogTarget,
    TerminalListenConfig,
    TerminalUpstreamConfig,
    TestLogin,
    TlsConfig,
    UpstreamConfig,
)

__all__ = [
    "MAX_BYTES",
    "AlertsConfig",
    "ClientConfig",
    "Config",
    "ConfigError",
    "DeviceConfig",
    "InlineConfig",
    "LedgerConfig",
    "ListenConfig",
    "MetricsConfig",
    "OfflineConfig",
    "PapercutUpstreamConfig",
    "Problem",
    "RadiusConfig",
    "RadiusListenConfig",
    "RadiusUpstreamConfig",
    "Secret",
    "SyslogTarget",
    "TerminalListenConfig",
    "TerminalUpstreamConfig",
    "TestLogin",
    "TlsConfig",
    "UpstreamConfig",
    "load",
    "state_dir_of",
    "time_zone_of",
]
