"""The configuration file: TOML in, frozen values out, and every mistake named with its line.

`load` is the only way in. It either gives a whole `Config` or raises `ConfigError` with every problem it found;
there is no half-read configuration, so a reload with a mistake leaves the old one in force.
"""

from appliance.config.loading import MAX_BYTES, load, state_dir_of
from appliance.config.values import (
    ClientConfig,
    Config,
    ConfigError,
    DeviceConfig,
    ListenConfig,
    OfflineConfig,
    Problem,
    RadiusConfig,
    Secret,
    TestLogin,
    UpstreamConfig,
)

__all__ = [
    "MAX_BYTES",
    "ClientConfig",
    "Config",
    "ConfigError",
    "DeviceConfig",
    "ListenConfig",
    "OfflineConfig",
    "Problem",
    "RadiusConfig",
    "Secret",
    "TestLogin",
    "UpstreamConfig",
    "load",
    "state_dir_of",
]
