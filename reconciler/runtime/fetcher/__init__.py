"""Fetches uris into the sandbox."""
