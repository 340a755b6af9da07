"""What a gateway is told: site.yaml, its firmware profiles, and the catalogue they give."""
