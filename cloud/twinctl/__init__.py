"""The operator's command line: a client of the public REST API."""
