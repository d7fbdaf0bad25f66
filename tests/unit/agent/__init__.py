"""The agent: what it keeps on disk, who may hold a root, what reading verbs see."""
