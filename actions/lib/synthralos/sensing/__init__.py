"""Sensors: dispatch alerts, agent errors and agent events as triggers, each once."""
