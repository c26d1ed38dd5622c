"""What outlives an action's process: outcomes, breakers, runs, history and tickets."""
