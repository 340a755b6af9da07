"""Long work that people ask for: claimed from the store, done beside REST, heavy sums in a child process."""
