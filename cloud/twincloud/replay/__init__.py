"""Values computed again from history: frames of stored samples, replays with their verdicts, explanations."""
