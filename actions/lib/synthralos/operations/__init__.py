"""What operators ask: the health of the system and a check of its set-up."""
