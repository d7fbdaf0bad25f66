"""One mechanism at a time against the real kernel."""
