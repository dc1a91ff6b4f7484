"""The attributes that RFCs define: number, name and type, and the names of the values that accounting and logins use.

RFC 2865, 2866, 2867, 2868, 2869, 3162, 3576 and 5176, 4072, 4372, 4675, 4818, 4849, 5090, 5580, 5607, 6911. Types are
RFC 8044's under the names that dictionaries use. Tagged attributes (RFC 2868) have their tag octet inside the value
and are "octets" here. Left out: extended attributes (RFC 6929), and values of protocols that no copier speaks.
"""

from __future__ import annotations

from typing import Final

ATTRIBUTES: Final[dict[str, str]] = {
    "string": """
        1 User-Name, 2 User-Password, 11 Filter-Id, 18 Reply-Message, 19 Callback-Number, 20 Callback-Id,
        22 Framed-Route, 30 Called-Station-Id, 31 Calling-Station-Id, 32 NAS-Identifier, 34 Login-LAT-Service,
        35 Login-LAT-Node, 39 Framed-AppleTalk-Zone, 44 Acct-Session-Id, 50 Acct-Multi-Session-Id,
        58 Egress-VLAN-Name, 63 Login-LAT-Port, 68 Acct-Tunnel-Connection, 74 ARAP-Security-Data, 77 Connect-Info,
        78 Configuration-Token, 87 NAS-Port-Id, 88 Framed-Pool, 92 NAS-Filter-Rule, 99 Framed-IPv6-Route,
        100 Framed-IPv6-Pool, 103 Digest-Response, 104 Digest-Realm, 105 Digest-Nonce, 106 Digest-Response-Auth,
        107 Digest-Nextnonce, 108 Digest-Method, 109 Digest-URI, 110 Digest-Qop, 111 Digest-Algorithm,
        112 Digest-Entity-Body-Hash, 113 Digest-CNonce, 114 Digest-Nonce-Count, 115 Digest-Username,
        116 Digest-Opaque, 117 Digest-Auth-Param, 118 Digest-AKA-Auts, 119 Digest-Domain, 120 Digest-Stale,
        121 Digest-HA1, 122 SIP-AOR, 126 Operator-Name, 130 Extended-Location-Policy-Rules,
        135 Management-Policy-Id, 171 Delegated-IPv6-Prefix-Pool, 172 Stateful-IPv6-Address-Pool
    """,
    "octets": """
        3 CHAP-Password, 24 State, 25 Class, 26 Vendor-Specific, 33 Proxy-State, 36 Login-LAT-Group,
        59 User-Priority-Table, 60 CHAP-Challenge, 64 Tunnel-Type, 65 Tunnel-Medium-Type,
        66 Tunnel-Client-Endpoint, 67 Tunnel-Server-Endpoint, 69 Tunnel-Password, 70 ARAP-Password,
        71 ARAP-Features, 79 EAP-Message, 80 Message-Authenticator, 81 Tunnel-Private-Group-Id,
        82 Tunnel-Assignment-Id, 83 Tunnel-Preference, 84 ARAP-Challenge-Response, 89 Chargeable-User-Identity,
        90 Tunnel-Client-Auth-Id, 91 Tunnel-Server-Auth-Id, 102 EAP-Key-Name, 127 Location-Information,
        128 Location-Data, 129 Basic-Location-Policy-Rules
    """,
    "integer": """
        5 NAS-Port, 6 Service-Type, 7 Framed-Protocol, 10 Framed-Routing, 12 Framed-MTU, 13 Framed-Compression,
        15 Login-Service, 16 Login-TCP-Port, 27 Session-Timeout, 28 Idle-Timeout, 29 Termination-Action,
        37 Framed-AppleTalk-Link, 38 Framed-AppleTalk-Network, 40 Acct-Status-Type, 41 Acct-Delay-Time,
        42 Acct-Input-Octets, 43 Acct-Output-Octets, 45 Acct-Authentic, 46 Acct-Session-Time,
        47 Acct-Input-Packets, 48 Acct-Output-Packets, 49 Acct-Terminate-Cause, 51 Acct-Link-Count,
        52 Acct-Input-Gigawords, 53 Acct-Output-Gigawords, 56 Egress-VLANID, 57 Ingress-Filters, 61 NAS-Port-Type,
        62 Port-Limit, 72 ARAP-Zone-Access, 73 ARAP-Security, 75 Password-Retry, 76 Prompt,
        85 Acct-Interim-Interval, 86 Acct-Tunnel-Packets-Lost, 101 Error-Cause, 131 Location-Capable,
        132 Requested-Location-Info, 133 Framed-Management, 134 Management-Transport-Protection,
        136 Management-Privilege-Level
    """,
    "ipaddr": "4 NAS-IP-Address, 8 Framed-IP-Address, 9 Framed-IP-Netmask, 14 Login-IP-Host, 23 Framed-IPX-Network",
    "ipv6addr": "95 NAS-IPv6-Address, 98 Login-IPv6-Host, 168 Framed-IPv6-Address, 169 DNS-Server-IPv6-Address",
    "ipv6prefix": "97 Framed-IPv6-Prefix, 123 Delegated-IPv6-Prefix, 170 Route-IPv6-Information",
    "ifid": "96 Framed-Interface-Id",
    "date": "55 Event-Timestamp",
}

VALUES: Final[dict[str, str]] = {
    "Service-Type": """
        1 Login-User, 2 Framed-User, 3 Callback-Login-User, 4 Callback-Framed-User, 5 Outbound-User,
        6 Administrative-User, 7 NAS-Prompt-User, 8 Authenticate-Only, 9 Callback-NAS-Prompt, 10 Call-Check,
        11 Callback-Administrative, 17 Authorize-Only, 18 Framed-Management
    """,
    "Acct-Status-Type": "1 Start, 2 Stop, 3 Interim-Update, 7 Accounting-On, 8 Accounting-Off, 15 Failed",
    "Acct-Authentic": "1 RADIUS, 2 Local, 3 Remote, 4 Diameter",
    "Acct-Terminate-Cause": """
        1 User-Request, 2 Lost-Carrier, 3 Lost-Service, 4 Idle-Timeout, 5 Session-Timeout, 6 Admin-Reset,
        7 Admin-Reboot, 8 Port-Error, 9 NAS-Error, 10 NAS-Request, 11 NAS-Reboot, 12 Port-Unneeded,
        13 Port-Preempted, 14 Port-Suspended, 15 Service-Unavailable, 16 Callback, 17 User-Error, 18 Host-Request
    """,
    "NAS-Port-Type": """
        0 Async, 1 Sync, 2 ISDN, 3 ISDN-V120, 4 ISDN-V110, 5 Virtual, 6 PIAFS, 7 HDLC-Clear-Channel, 8 X.25,
        9 X.75, 10 G.3-Fax, 11 SDSL, 12 ADSL-CAP, 13 ADSL-DMT, 14 IDSL, 15 Ethernet, 16 xDSL, 17 Cable,
        18 Wireless-Other, 19 Wireless-802.11
    """,
    "Prompt": "0 No-Echo, 1 Echo",
    "Termination-Action": "0 Default, 1 RADIUS-Request",
}


def numbered(text: str) -> list[tuple[int, str]]:
    """(number, name) of each entry of one of the lists above."""
    return [(int(number), name) for number, name in (entry.split() for entry in text.split(","))]
