"""From the coordinator to the slots: directives and what becomes of them."""
