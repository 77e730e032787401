"""What a server process that forks and logs needs: locks after a fork, ids, log lines."""
