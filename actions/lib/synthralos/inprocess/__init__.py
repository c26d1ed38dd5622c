"""Recovery for Python programs that call the library themselves, without StackStorm."""
