"""What a person does once for a gateway: plan it, write its configuration, have it started with the machine."""
