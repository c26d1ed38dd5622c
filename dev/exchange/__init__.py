"""What StackStorm Exchange checks of a pack, on this machine: `make exchange`."""
