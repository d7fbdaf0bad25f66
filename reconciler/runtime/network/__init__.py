"""Networks of containers with a network namespace of their own: what gives them, and the record of what was given."""
