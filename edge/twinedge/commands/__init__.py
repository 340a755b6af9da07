"""Commands at the gateway: judged by rules, recorded, told to a device at most once, read back."""
