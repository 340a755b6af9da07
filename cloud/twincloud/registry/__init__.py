"""Model packages the coordinator holds: what is in them, where their bytes lie, and which twin they fit."""
