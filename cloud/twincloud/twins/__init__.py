"""What a twin says now and what it said: pure functions over samples, without a database."""
