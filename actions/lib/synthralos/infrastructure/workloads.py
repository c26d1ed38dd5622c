"""The workload that a pod belongs to, by the names that Kubernetes generates for pods."""

import re

from synthralos.infrastructure.node_names import host_of

# The alphabet of generated names has no vowels, and no digits that look like letters.
_GENERATED = "[bcdfghjklmnpqrstvwxz2456789]"
# `<deployment>-<template hash>-<pod>`, `<daemonset>-<pod>`, `<replicaset>` with its hash, or
# `<statefulset>-<ordinal>`. Hashes have up to ten characters. Nearly all of them have a digit, and
# one that stands alone must: other words would be taken for it.
_SUFFIX = re.compile(
    r"(?:-%(c)s{4,10}-%(c)s{5}|-(?=[a-z]*[0-9])%(c)s{4,10}|-%(c)s{5}|-[0-9]{1,4})\Z" % {
        "c": _GENERATED}
)


def workload_of(node: str) -> str:
    """Return the name of the workload of a pod, such as `shop/web` for `shop/web-7f9c-x2x4z`, and
    that of the host of a `host:port`.

    Other names are returned as they are. A name that only looks generated is shortened, too: this
    groups things that must not be repaired at the same time, so a group may be too large. A
    controller that is named like a pod is shortened as its pods are.
    """
    prefix, slash, name = node.rpartition("/")
    if not slash:
        host: str = host_of(node)
        return host
    shortened = _SUFFIX.sub("", name)
    while shortened and shortened != name:
        name, shortened = shortened, _SUFFIX.sub("", shortened)
    return "%s/%s" % (prefix, name)
