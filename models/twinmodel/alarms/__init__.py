"""Alarms: the states one goes through, and the record that tells of each step."""
