"""Custom executors: the protocol they speak, their sessions, and the sockets they come to. See docs/executors.md."""
