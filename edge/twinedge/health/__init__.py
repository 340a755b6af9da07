"""What an agent says about itself: status, metrics, watchdog."""
