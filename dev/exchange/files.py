"""What StackStorm Exchange's checks find in a pack: everything but what is hidden at its top."""
import os
import pathlib

CACHES = ("__pycache__",)


def files(pack, *endings):
    """The pack's files with these endings, sorted, relative to it."""
    found = []
    for folder, below, names in os.walk(pack):
        here = pathlib.Path(folder).relative_to(pack)
        top = here == pathlib.Path(".")
        below[:] = sorted(
            name for name in below if name not in CACHES and not (top and name.startswith("."))
        )
        found += [
            here / name for name in names
            if name.endswith(endings) and not (top and name.startswith("."))
        ]
    return sorted(found)
