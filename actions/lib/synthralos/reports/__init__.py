"""Reports on runs, tickets and periods, as Markdown or as a single HTML page."""
