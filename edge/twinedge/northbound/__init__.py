"""Northbound: what is measured and estimated, served on site with quality and sigma, whether or not a link is up."""
