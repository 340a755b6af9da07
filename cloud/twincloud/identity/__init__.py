"""Who may come and who may ask: certificates of gateways, tokens of people, and what each role may do."""
