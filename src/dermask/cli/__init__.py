"""The command line: one module per command; the only part that prints."""
