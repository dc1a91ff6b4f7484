"""SNMPv1 and SNMPv2c messages: what page meters are read with. SNMPv3 is pysnmp's (`proxy/net/snmp`)."""
