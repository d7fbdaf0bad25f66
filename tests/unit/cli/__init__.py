"""The command line: parsing, exit codes, what is printed."""
