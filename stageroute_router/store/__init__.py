"""Where statistics, decisions and rewards are kept."""
