"""Models that run in the coordinator, on what gateways sent: twins that span gateways and compose other twins."""
