"""`locum ledger`: the ledger as evidence. Each command is in a module of its own."""

import click

from appliance.cli.lazy import LazyGroup

COMMANDS = {
    "key": "appliance.cli.ledger_key:key",
    "sign": "appliance.cli.ledger_key:sign",
    "verify": "appliance.cli.ledger_verify:verify",
    "export": "appliance.cli.ledger_export:export",
    "report": "appliance.cli.ledger_report:report",
    "erase-card": "appliance.cli.ledger_erase:erase_card",
    "check": "appliance.cli.ledger_check:check",
    "repair": "appliance.cli.ledger_check:repair",
    "vacuum": "appliance.cli.ledger_check:vacuum",
    "archive": "appliance.cli.ledger_copies:archive",
    "backup": "appliance.cli.ledger_copies:backup",
    "adopt": "appliance.cli.ledger_copies:adopt",
}
"""Where each command lives."""


@click.group(cls=LazyGroup, places=COMMANDS)
def ledger() -> None:
    """Verify, export, report, erase, and keep the ledger well.

    Example: locum ledger verify /var/lib/locum/ledger.db
    """
