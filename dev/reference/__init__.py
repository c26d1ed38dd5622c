"""What `make docs` writes: docs/reference.md, and sections of architecture.md and failures.md.

PYTHONPATH has dev/, actions/lib and tests/.
"""
