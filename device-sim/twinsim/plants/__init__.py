"""Plants: the physics that simulated devices measure."""
