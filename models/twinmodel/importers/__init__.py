"""Model files and packages from what other tools write; nothing of theirs is ever executed here."""
