"""A reward on its way in: its check, its receipt, its token. Pure: a clock and keys are given."""
