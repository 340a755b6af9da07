"""A whole plant of real programs by one file: devices, links, a coordinator and agents, steps, and a verdict."""
