"""A single-node container reconciler: YAML specs in a directory, running containers on the host."""

__version__ = "0.1.0"
