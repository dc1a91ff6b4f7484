"""The names of the ledger's tables, as of the present schema.

How they are made stands in the steps that made them: `schema_1.py` and `schema_2.py`.
"""

from __future__ import annotations

from storage import schema_1, schema_2

EVIDENCE = (*schema_1.EVIDENCE, *(name for name in schema_2.EVIDENCE if name not in schema_1.EVIDENCE))
"""Tables that are written once and never changed. Only rows of `personal` may be deleted: that is erasure."""

WORKING = (*schema_1.WORKING, *schema_2.WORKING)
"""Tables that Locum works with; they may change and prove nothing."""
