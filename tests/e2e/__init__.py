"""The whole line on loopback: a real server, real clients, Locum between them."""
