"""RADIUS as functions and values, without I/O.

RFC 2865, 2866, 2868 (Tunnel-Password), 2869 (Message-Authenticator), 3162 (IPv6) and 5997 (Status-Server).
"""
