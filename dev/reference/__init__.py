"""docs/reference.md and the layers in docs/architecture.md: `make docs`."""
