"""Whether the service may read what the configuration names: root may read everything, the service's user may not."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

from appliance.check.findings import Finding, error
from appliance.config import Config, ConfigError, load

_LONGEST = 2_000
SERVICE_USER = "locum"


def findings(config: Config) -> Iterator[Finding]:
    """Only root can become somebody else to find out."""
    someone = _service_user(config.state_dir) if os.geteuid() == 0 else None
    if someone is None:
        return
    refusal = _read_as(someone, config.path)
    if refusal:
        text = f"the service's user {someone.pw_name} cannot use it: {refusal}; see who owns what in docs/install.md"
        yield error("config", text)


def _service_user(state_dir: Path) -> pwd.struct_passwd | None:
    """Whose the state directory is; before there is one, the package's user."""
    try:
        found = pwd.getpwuid(state_dir.stat().st_uid) if state_dir.exists() else pwd.getpwnam(SERVICE_USER)
    except (KeyError, OSError):
        return None
    return found if found.pw_uid else None


def _read_as(someone: pwd.struct_passwd, path: Path) -> str:
    """Why this user cannot load the configuration, in a line; "" if nothing is wrong. In a process of its own."""
    file = path.absolute()
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(ours)
            os.write(theirs, _problem_of(someone, file).encode()[:_LONGEST])
        finally:
            os._exit(0)
    os.close(theirs)
    with open(ours, "rb") as said:
        text = said.read().decode("utf-8", "replace")
    os.waitpid(child, 0)
    return text


def _problem_of(someone: pwd.struct_passwd, file: Path) -> str:
    """For the child, which is somebody else from here on."""
    try:
        os.initgroups(someone.pw_name, someone.pw_gid)
        os.setresgid(someone.pw_gid, someone.pw_gid, someone.pw_gid)
        os.setresuid(someone.pw_uid, someone.pw_uid, someone.pw_uid)
        load(file)
    except (ConfigError, OSError, UnicodeDecodeError) as problem:
        return (str(problem).splitlines() or ["it cannot be read"])[0]
    return ""
