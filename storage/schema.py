"""The names of the ledger's tables, as of the present schema.

How they are made stands in the steps that made them: `schema_1.py` to `schema_4.py`.
"""

from __future__ import annotations

from storage import schema_1, schema_2, schema_3, schema_4

EVIDENCE = tuple(dict.fromkeys((*schema_1.EVIDENCE, *schema_2.EVIDENCE, *schema_3.EVIDENCE, *schema_4.EVIDENCE)))
"""Tables that are written once and never changed. Only rows of `personal` may be deleted: that is erasure."""

WORKING = (*schema_1.WORKING, *schema_2.WORKING)
"""Tables that Locum works with; they may change and prove nothing."""


def statements() -> list[str]:
    """What makes an empty ledger of the present schema, in order."""
    return [*schema_1.statements(), *schema_2.statements(), *schema_3.statements(), *schema_4.statements()]
