"""docs/reference.md, made from the pack's metadata: `make docs`."""
