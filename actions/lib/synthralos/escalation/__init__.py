"""Who looks at what could not be cured: levels, priorities, reports and notifications."""
