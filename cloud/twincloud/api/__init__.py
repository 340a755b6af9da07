"""REST, events and the console: they read the store and change it only through it."""
