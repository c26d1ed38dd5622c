"""The files of a pack that StackStorm Exchange checks: all except hidden ones at its top."""
import os
import pathlib

CACHES = ("__pycache__",)


def files(pack, *endings):
    """Return the pack's files with these endings, sorted, relative to the pack."""
    paths = []
    for folder, subfolders, names in os.walk(pack):
        here = pathlib.Path(folder).relative_to(pack)
        top = here == pathlib.Path(".")
        subfolders[:] = sorted(
            name for name in subfolders if name not in CACHES and not (top and name.startswith("."))
        )
        paths += [
            here / name for name in names
            if name.endswith(endings) and not (top and name.startswith("."))
        ]
    return sorted(paths)
