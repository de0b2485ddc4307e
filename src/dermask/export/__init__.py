"""A trained network as one file that other runtimes read."""
