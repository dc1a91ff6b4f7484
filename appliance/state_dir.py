"""The state directory: ledger, keys, control socket. Made with modes that keep others out, refused when they do not.

The ledger holds who copied what. One key makes fingerprints of secrets that cannot be guessed from a ledger alone, the
other signs the ledger. The group may enter (for the control socket), others may do nothing.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from storage.signing import Signer

KEY_NAME = "installation.key"
KEY_SIZE = 32
SIGNING_KEY_NAME = "signing.key"
PUBLIC_KEY_NAME = "signing.pub"
UNLOCK_CODE_NAME = "unlock-code"
UNLOCK_CARD_NAME = "unlock-card"
SNMP_BOOTS_NAME = "snmp-boots"
LEDGER_NAME = "ledger.db"
OTHERS = stat.S_IROTH | stat.S_IWOTH | stat.S_IXOTH


class StateDirError(Exception):
    """The state directory cannot be used. The text is one line: what, where, what to do."""


def prepare(path: Path) -> None:
    """Make the directory if it is missing. Raises StateDirError if it cannot be used or others may look into it."""
    try:
        path.mkdir(mode=0o750, parents=True, exist_ok=True)
        mode = path.stat().st_mode
    except OSError as error:
        raise StateDirError(
            f"{path}: cannot be used as state directory ({error.strerror}); check owner and path"
        ) from error
    if mode & OTHERS:
        raise StateDirError(f"{path}: others may look into the state directory; run 'chmod o-rwx {path}'")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise StateDirError(
            f"{path}: this user may not write to the state directory; give it to the user of the service"
        )


def installation_key(path: Path) -> bytes:
    """The random key of this installation; made at the first start, readable by the service alone. Raises
    StateDirError.
    """
    file = path / KEY_NAME
    try:
        if not file.exists():
            _write_new(file, os.urandom(KEY_SIZE))
        key = file.read_bytes()
        if file.stat().st_mode & 0o077:
            raise StateDirError(f"{file}: others may read the key; run 'chmod 600 {file}'")
    except OSError as error:
        raise StateDirError(f"{file}: cannot be read or made ({error.strerror}); check its owner") from error
    if len(key) != KEY_SIZE:
        raise StateDirError(f"{file}: is damaged ({len(key)} bytes, not {KEY_SIZE}); move it away, a new one is made")
    return key


def signing_key(path: Path) -> Signer:
    """The key that signs this installation's ledger; made at the first start, readable by the service alone, its public
    half beside it in PEM. Raises StateDirError.
    """
    from storage.signing import Signer, public_pem  # its library takes longer to load than most commands run

    file, public = path / SIGNING_KEY_NAME, path / PUBLIC_KEY_NAME
    signer = signing_key_there(path)
    try:
        if signer is None:
            signer = Signer.new()
            _write_new(file, signer.pem())
        told = public_pem(signer.public_key).encode()
        if not public.exists() or public.read_bytes() != told:
            _write_new(public, told, 0o644)
            _sync(path)
    except OSError as error:
        raise StateDirError(f"{file}: cannot be made ({error.strerror}); check the directory's owner") from error
    return signer


def signing_key_there(path: Path) -> Signer | None:
    """As `signing_key`, but nothing is made: None if there is no key yet. Raises StateDirError."""
    from storage.signing import NotAKey, Signer

    file = path / SIGNING_KEY_NAME
    try:
        if file.stat().st_mode & 0o077:
            raise StateDirError(f"{file}: others may read the key; run 'chmod 600 {file}'")
        return Signer.from_pem(file.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateDirError(f"{file}: cannot be read ({error.strerror}); check its owner") from error
    except NotAKey as error:
        advice = "put a copy of it back, or move it away: a new one is made, and the ledger says since when"
        raise StateDirError(f"{file}: is damaged ({error}); {advice}") from error


def public_key(path: Path) -> bytes:
    """The public half of `signing_key`, 32 bytes, for everybody who may enter the directory. Raises StateDirError."""
    from storage.signing import NotAKey, public_key_from

    file = path / PUBLIC_KEY_NAME
    try:
        return public_key_from(file.read_text("ascii"))
    except FileNotFoundError as error:
        raise StateDirError(f"{file}: there is no key yet; start Locum once, or name its state directory") from error
    except OSError as error:
        raise StateDirError(f"{file}: cannot be read ({error.strerror}); run as root or in the group locum") from error
    except (NotAKey, UnicodeDecodeError) as error:
        raise StateDirError(f"{file}: holds no public key; remove it and start Locum: it is written anew") from error


def unlock_hash(path: Path, name: str = UNLOCK_CODE_NAME) -> str:
    """The Argon2id hash of the unlock code, or of the unlock card's number; "" while none is set. Raises
    StateDirError.
    """
    file = path / name
    try:
        found = file.read_text("ascii").strip()
        if file.stat().st_mode & 0o077:
            raise StateDirError(f"{file}: others may read this hash; run 'chmod 600 {file}'")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise StateDirError(f"{file}: cannot be read ({error.strerror}); check its owner") from error
    except ValueError:
        found = ""
    if not found.startswith("$argon2id$"):
        command = "locum unlock-code set" + (" --card" if name == UNLOCK_CARD_NAME else "")
        raise StateDirError(f"{file}: holds no hash of an unlock code; set it anew with '{command}'")
    return found


def keep_unlock_hash(path: Path, hash: str, name: str = UNLOCK_CODE_NAME) -> None:
    """Keep the hash of the unlock code or card, or with "" forget it; on stable storage when it returns. Raises
    StateDirError.

    The file belongs to whom the directory belongs to, so that root can set it for the service.
    """
    file = path / name
    try:
        if hash:
            _write_new(file, hash.encode() + b"\n")
        else:
            file.unlink(missing_ok=True)
        _sync(path)
    except FileNotFoundError as error:
        raise StateDirError(
            f"{path}: there is no such state directory; start Locum once, or run 'locum init'"
        ) from error
    except OSError as error:
        raise StateDirError(
            f"{file}: cannot be changed ({error.strerror}); run as root or as the service's user"
        ) from error


def _write_new(file: Path, content: bytes, mode: int = 0o600) -> None:
    """Put a whole file in place at once, with the directory's owner."""
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        if os.geteuid() == 0:
            about = file.parent.stat()
            os.fchown(descriptor, about.st_uid, about.st_gid)
        os.fchmod(descriptor, mode)
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    new.rename(file)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def next_boots(path: Path) -> int:
    """How often Locum's SNMP engine was started, with this time (RFC 3414 section 2.2.2); on stable storage when it
    returns. Raises StateDirError.
    """
    file = path / SNMP_BOOTS_NAME
    try:
        known = int(file.read_text("ascii")) if file.exists() else 0
        boots = min(max(known, 0) + 1, (1 << 31) - 1)
        _write_new(file, b"%d\n" % boots)
        _sync(path)
    except ValueError as error:
        text = "holds no number; remove it, and give the users of SNMPv3 at the management side new keys"
        raise StateDirError(f"{file}: {text}") from error
    except OSError as error:
        raise StateDirError(f"{file}: cannot be read or made ({error.strerror}); check its owner") from error
    return boots
