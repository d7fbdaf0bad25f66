"""Isolators: each keeps one resource or view of a container apart from the others."""
