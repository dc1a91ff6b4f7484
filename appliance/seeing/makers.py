"""Who made a network card, by the first three octets of its address: the makers of copiers, as the IEEE has them.

Facts from the IEEE's public register (MA-L). Left out: makers of general computers and network cards, HP among them,
whose numbers say nothing of copiers.
"""

from __future__ import annotations

_REGISTERED = {
    "Brother": "001BA9 008077 30055C 3C2AF4 94DDF8 B42200",
    "Canon": "000085 001E8F 00BBC1 180CAC 2C9EFC 349F7B 40F8DF 5C625A 60128B 6C3C7C 6CF2D8 7438B7 74BFC0 84BA3B 888717 "
    "9C32CE D8492F DCC2C9 F48139 F4A997 F80D60 F8A26D",
    "Epson": "000048 0026AB 381A52 389D92 44D244 50579C 64C6D2 64EB8C 6855D4 9CAED3 A4D73C A4EE57 AC1826 B0E892 DCCD2F "
    "E0BB9E F82551 F8D027",
    "FUJIFILM Business Innovation": "080037 1C7D22",
    "Konica Minolta": "00206B 0050AA",
    "Kyocera": "0017C8 00C0EE D4F0C9",
    "Lexmark": "000400 002000 0021B7 0084ED 788C77",
    "OKI": "001157 002536 008087 2CFF65",
    "Ricoh": "000074 000BDD 002673 583879",
    "Riso": "24BA13",
    "Sharp": "00175C 001CEE 0022F3 08001F 145051 242642 2884FA 345A06 34F62D 6879ED 781C5A 803896 8C5219 9CC7D1 A0DDE5 "
    "ACA88E BCB181 F09FFC",
    "Toshiba": "C83A1B",
    "Xerox": "000000 000001 000002 000003 000004 000005 000006 000007 000008 000009 0000AA 080072 9C934E E84DEC",
}
_BY_PREFIX = {bytes.fromhex(prefix): maker for maker, text in _REGISTERED.items() for prefix in text.split()}
_ASSIGNED_LOCALLY = 0x02


def maker_of(mac: bytes) -> str:
    """The maker of the copier with this address (6 octets), "" if it is none of these."""
    if len(mac) != 6 or mac[0] & _ASSIGNED_LOCALLY or not any(mac):
        return ""
    return _BY_PREFIX.get(mac[:3], "")
