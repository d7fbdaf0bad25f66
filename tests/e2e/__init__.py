"""End-to-end scenarios, through the command line only, each followed by the leak check."""
