"""The runtime's pure parts: parsing, formats, decisions."""
