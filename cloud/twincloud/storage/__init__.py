"""Where the coordinator keeps what it knows, behind one contract."""
