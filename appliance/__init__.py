"""The box: configuration, command line, service, and the two ends of the demo. Nothing below imports from here."""

__version__ = "0.1.0"
