"""The workload that a pod belongs to, by the names that Kubernetes generates for pods."""

import re

# The alphabet of generated names has no vowels, and no digits that look like letters.
_GENERATED = "[bcdfghjklmnpqrstvwxz2456789]"
# `<deployment>-<template hash>-<pod>`, `<daemonset>-<pod>` or `<statefulset>-<ordinal>`. Hashes
# have up to ten characters, and nearly always a digit.
_SUFFIX = re.compile(
    r"(?:-(?=[a-z]*[0-9])%(c)s{4,10}(?:-%(c)s{5})?|-%(c)s{5}|-[0-9]{1,4})\Z" % {"c": _GENERATED}
)


def workload_of(node: str) -> str:
    """Return the name of the workload of a pod, such as `shop/web` for `shop/web-7f9c-x2x4z`.

    Other names are returned as they are. A name that only looks generated is shortened, too: this
    groups things that must not be repaired at the same time, so a group may be too large.
    """
    prefix, slash, name = node.rpartition("/")
    shortened = _SUFFIX.sub("", name) if slash else name
    return "%s%s%s" % (prefix, slash, shortened or name)
