"""What the server remembers: SQLite or PostgreSQL. Each function works inside the caller's transaction."""
