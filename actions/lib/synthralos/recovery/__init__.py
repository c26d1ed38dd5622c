"""The four recovery workflows: from a failure to a plan, and from a plan to its requests."""
