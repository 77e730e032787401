"""Where the segment of a call comes from."""
