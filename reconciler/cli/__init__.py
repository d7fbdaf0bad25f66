"""The command line: one small module per verb, imported lazily; prints, never decides."""
