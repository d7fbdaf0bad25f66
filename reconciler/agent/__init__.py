"""Composition root: flags, wiring, the daemon's life, control socket, records on disk."""
