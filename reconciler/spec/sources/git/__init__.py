"""Specs out of a git repository: where it is, the commands that read it, and the source made of them."""
