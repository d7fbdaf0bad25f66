"""Fetches uris into the sandbox.

agent: fetcher.py ──request, descriptors──▶ child.py, a process as the container's user   transfer ▸ verify ▸ place
          │  ◀──progress, outcome─────────                                                     (placing, unpacking)
          └─ cache.py: one download for all who wait for it, least recently used out first
"""
