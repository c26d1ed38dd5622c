"""What a run shows while it is going on: its log, its trace, the cost of its calls."""
