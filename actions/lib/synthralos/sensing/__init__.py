"""What sensors see: alerts, agents' errors and events, each told once as a trigger."""
