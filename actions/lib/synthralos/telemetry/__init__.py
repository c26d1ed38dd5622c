"""What people see while a run is going on."""
