"""A PaperCut server as upstream, by its public Web Services API (docs/papercut.md)."""
