"""SNMP towards the management side, as the service runs it: LOCUM-MIB, its figures, notifications, proxy and traps."""
