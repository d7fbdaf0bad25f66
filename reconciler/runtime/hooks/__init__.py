"""Hooks: programs of the operator's that are asked at points in the life of every container."""
