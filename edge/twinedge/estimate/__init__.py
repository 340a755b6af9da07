"""The stage that steps a twin's model on its grid and says what it thinks, with sigma."""
