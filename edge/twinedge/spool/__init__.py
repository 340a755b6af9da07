"""The only durable thing on the edge: what was measured and is not yet committed by the coordinator."""
