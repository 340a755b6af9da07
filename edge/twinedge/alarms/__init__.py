"""Alarms of one gateway: rules judged beside the machine, states kept over restarts, one line per cause."""
