"""The manifest: what an export is, of what, how it was made, and by which signature and hashes it can be checked."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage import signing
from storage.checkpoints import Checkpoint
from storage.export import files
from storage.export.filters import Chosen
from storage.export.output import Written

NAMED = "entries_with_names_in_words"
HOW_TO_CHECK = [
    "files: the SHA-256 of each file is that of its bytes (sha256sum).",
    "checkpoint: `signature` is Ed25519 (RFC 8032) by `public_key` over the bytes of 'locum-checkpoint-1' followed by "
    "`body`; compare `public_key` with the one that was written down at the installation (locum ledger key).",
    "sqlite: `locum ledger verify FILE --public-key KEY` checks the chain, the signatures and every row.",
    "jsonl: the hash of a line is SHA-256('locum-entry-1' || prev_hash || body), and the next line's prev_hash; the "
    "entry whose number is the checkpoint's `seq` has the hash that its body names.",
    "csv, xlsx, html: tables for reading; the bytes are what this file says, but only an export as sqlite or jsonl "
    "can be checked against the signature.",
]


@dataclass(frozen=True, slots=True)
class About:
    """An export, before it is made. `version`: Locum's. `made_at`: ISO 8601. `pseudonymised`: names are hidden, here or
    in the file that it is made from. `info`: `export_info` of the file that it is made from, empty for a whole ledger.
    `named`: with pseudonyms, entries that name a person in the words of the server or the device, which stand in the
    chain; None: not known. `wrong`: what is wrong first with the chain, "" nothing.
    """

    version: str
    format: str
    made_at: str
    zone: str
    pseudonymised: bool
    chosen: Chosen
    checkpoint: Checkpoint | None
    info: Mapping[str, str]
    named: int | None = 0
    wrong: str = ""

    @property
    def filters(self) -> dict[str, Any]:
        """As people may read them."""
        return self.chosen.filters.said(naming_cards=not self.pseudonymised)

    def rows(self) -> dict[str, str]:
        """The table `export_info`."""
        plain = "whole" if self.chosen.whole else "filtered"
        personal = "none" if self.pseudonymised else plain
        worst = ("whole", "filtered", "none")
        return {
            "kind": "export",
            "version": self.version,
            "made_at": self.made_at,
            "filters": json.dumps(self.filters, ensure_ascii=False, sort_keys=True),
            "pseudonymised": str(int(self.pseudonymised)),
            "plain": max(plain, self.info.get("plain", "whole"), key=worst.index),
            "personal": max(personal, self.info.get("personal", "whole"), key=worst.index),
            "first": str(self.chosen.first),
            "through": str(self.chosen.through),
            "time_zone": self.zone,
            "checkpoint": self.checkpoint.line if self.checkpoint is not None else "",
            **({NAMED: str(self.named)} if self.pseudonymised and self.named is not None else {}),
            **({"made_from": json.dumps(dict(self.info), sort_keys=True)} if self.info else {}),
            **({"erased": self.info["erased"]} if "erased" in self.info else {}),
        }

    def in_words(self) -> dict[str, str]:
        """The same for the head of a page."""
        filters = self.filters
        period = f"{filters.get('from', 'the beginning')} to {filters.get('to', self.made_at)}"
        words = {
            "what": "Export of a ledger of Locum",
            "period": f"the outage {filters['outage']}" if "outage" in filters else period,
            "made": f"{self.made_at} by Locum {self.version}",
            "filters": "; ".join(f"{name}: {_told(value)}" for name, value in filters.items()) or "none: all of it",
            "entries": f"{self.chosen.entries:,}, the last is {self.chosen.through:,}",
            "local times": self.zone,
            "names": "pseudonyms" if self.pseudonymised else "as they are",
        }
        if self.checkpoint is not None:
            words["signed through"] = f"entry {self.checkpoint.seq:,}"
            words["checkpoint"] = self.checkpoint.line
        if self.wrong:
            words["found wrong"] = self.wrong
        return words


def newest_checkpoint(connection: sqlite3.Connection, through: int) -> Checkpoint | None:
    """The last checkpoint that signs an entry up to `through`. Raises sqlite3.Error."""
    row = connection.execute(
        "SELECT number, seq, body, signature, public_key FROM checkpoints WHERE seq <= ? ORDER BY number DESC LIMIT 1",
        (through,),
    ).fetchone()
    return Checkpoint(*row) if row is not None else None


def make(about: About, written: Written, made: Mapping[str, Path], head: bytes | None) -> bytes:
    """The manifest's bytes: JSON for people and programs. `made`: the files by the name that they will have; `head`:
    hash of the last entry. Raises OSError.
    """
    chosen, checkpoint = about.chosen, about.checkpoint
    told: dict[str, Any] = {
        "what": "export of a ledger of Locum",
        "version": about.version,
        "format": about.format,
        "made_at": about.made_at,
        "time_zone": about.zone,
        "filters": about.filters,
        "pseudonymised": about.pseudonymised,
        "entries": {
            "chosen": chosen.entries,
            "first": chosen.first,
            "through": chosen.through,
            "head": head.hex() if head is not None else None,
        },
        "found_wrong": about.wrong or None,
        "rows": written.counts,
        "altered_cells": written.altered,
        "files": [
            {"name": name, "bytes": path.stat().st_size, "sha256": files.digest(path)} for name, path in made.items()
        ],
        "checkpoint": None,
        "public_key_pem": None,
        "how_to_check": HOW_TO_CHECK,
    }
    if about.pseudonymised:
        told[NAMED] = about.named
    if about.info:
        told["made_from"] = dict(about.info)
    if checkpoint is not None:
        told["checkpoint"] = {
            "seq": checkpoint.seq,
            "body": checkpoint.body,
            "signature": base64.b64encode(checkpoint.signature).decode(),
            "public_key": base64.b64encode(checkpoint.public_key).decode(),
            "line": checkpoint.line,
        }
        told["public_key_pem"] = signing.public_pem(checkpoint.public_key)
    return json.dumps(told, indent=2, ensure_ascii=False).encode() + b"\n"


def _told(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)
