"""From the spool to the coordinator: one session after the other, for ever."""
