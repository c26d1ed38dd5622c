"""What every action runs through: its environment, parameters, case and records of failures."""
