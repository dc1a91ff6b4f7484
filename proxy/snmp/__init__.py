"""SNMP towards the management side: Locum's own agent, the proxy of copiers, and traps kept."""
