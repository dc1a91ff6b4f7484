"""`locum init`: a first configuration from a few answers, with its secrets, keys and state directory.

Everything is written beside its place first and read as the appliance would read it; only what holds is moved into
place. Nothing that is there is overwritten unless that is asked for, and a ledger never.
"""

from appliance.init.answers import Answers
from appliance.init.files import CannotInit, Written, write

__all__ = ["Answers", "CannotInit", "Written", "write"]
