"""Twin definitions: what twins of one sort have, know of each other and may be told."""
