"""Health checks as they are made: over the container's network without a process, or by a command inside it."""
