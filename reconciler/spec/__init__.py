"""What the user wrote: models, loader, normaliser, sources."""
