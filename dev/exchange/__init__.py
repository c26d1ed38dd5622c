"""StackStorm Exchange's checks of a pack, on this machine: `make exchange`."""
