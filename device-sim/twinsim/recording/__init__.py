"""Real sessions kept in files, and played again as devices."""
