"""News of a commit, carried inside the process to whoever watches."""
