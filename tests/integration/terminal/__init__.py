"""Terminals, attach, exec -it and debug containers, on the real kernel."""
