"""Typed, thin wrappers of system calls and kernel files; the only place with ctypes and raw constants."""
