"""Seeing what is on the wire: who talks to whom, captures of it, and what they say.

For the commands `discover`, `capture` and `decode` only, in processes of their own: the service never imports this. It
is the one place that may use scapy, which reads and writes capture files and names machines by SNMP and mDNS; what the
dialects say is read by our own `protocols`, and by nothing else.
"""
