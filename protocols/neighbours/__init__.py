"""Who has an address on an Ethernet: ARP for IPv4, neighbour solicitations and advertisements for IPv6."""
