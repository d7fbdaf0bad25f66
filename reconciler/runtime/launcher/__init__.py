"""Launchers fork and destroy containers; the keeper process does the forking."""
