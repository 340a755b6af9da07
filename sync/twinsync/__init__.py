"""How the facts of twins travel: block codec, session and the generated stubs of the wire."""
