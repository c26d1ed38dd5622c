"""The four recovery workflows: from a failure to a plan, and from a plan to the requests that try to cure it."""
