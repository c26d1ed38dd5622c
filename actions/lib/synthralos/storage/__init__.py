"""What outlives an action's process: the datastore, and everything that is stored in it."""
