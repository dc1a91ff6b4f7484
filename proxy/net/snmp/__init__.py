"""SNMP by pysnmp on the reactor; the only place that imports it."""
