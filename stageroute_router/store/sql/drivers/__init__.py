"""What differs between SQLite and PostgreSQL: connections, failures, statements."""
