"""Whether an agent repeats itself: signatures of steps, patterns among them, the detector."""
