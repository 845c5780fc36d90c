"""Files: written whole or not at all, read only after every check."""
