"""The docker executor: a small process per container that stays with it when the agent does not."""
