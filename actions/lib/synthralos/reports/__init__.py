"""Reports of runs, tickets and periods, as Markdown and as one HTML page."""
