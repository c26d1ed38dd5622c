"""From failed nodes to the crews that repair them: detection, impact, planning, assignment."""
