"""A managed group in one process: what it believes, and how that moves on."""
