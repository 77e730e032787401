"""What may be spent next: the account of a group, and its pacing."""
