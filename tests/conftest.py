"""Puts the library and the programs of dev/ on the path, as StackStorm and the Makefile do."""
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
for folder in (ROOT / "dev", ROOT / "actions" / "lib"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
