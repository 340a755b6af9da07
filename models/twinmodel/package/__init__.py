"""The `.twin` file: content-addressed, signed, immutable; nothing unverified leaves this package."""
