"""Renders metrics in Prometheus's text exposition format 0.0.4 and as JSON."""

from collections.abc import Iterator
from typing import Any, TypedDict

from synthralos.metrics.definitions import Family, SeriesByFamily, Value

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metric(TypedDict):
    """A metric as JSON. `samples`: [{labels, value}]; of a histogram, in place of the value, count,
    sum and buckets [[upper bound, cumulative count]], where the last bound is null for +Inf.
    """

    name: str
    type: str
    help: str
    samples: list[dict[str, Any]]


def to_prometheus_text(series_by_family: SeriesByFamily) -> str:
    """Render series in the text exposition format."""
    lines: list[str] = []
    for family, series in series_by_family.items():
        if not series:
            continue
        lines.append("# HELP %s %s" % (family.name, _escaped(family.help, quote=False)))
        lines.append("# TYPE %s %s" % (family.name, family.type))
        for values in sorted(series):
            lines += _lines(family, list(zip(family.labels, values)), series[values])
    return "".join(line + "\n" for line in lines)


def to_json(series_by_family: SeriesByFamily) -> list[Metric]:
    """Render series as JSON."""
    return [
        {
            "name": family.name,
            "type": family.type,
            "help": family.help,
            "samples": [_sample(family, values, series[values]) for values in sorted(series)],
        }
        for family, series in series_by_family.items()
        if series
    ]


def _lines(family: Family, labels: list[tuple[str, str]], value: Value) -> list[str]:
    if not isinstance(value, list):
        return [_line(family.name, labels, value)]
    count, total, _ = value
    lines = [
        _line(family.name + "_bucket", labels + [("le", _number(bound))], cumulative_count)
        for bound, cumulative_count in _cumulative(family, value)
    ]
    return lines + [
        _line(family.name + "_sum", labels, total), _line(family.name + "_count", labels, count)
    ]


def _cumulative(family: Family, value: list[Any]) -> Iterator[tuple[float, int]]:
    cumulative_count = 0
    for bound, count in zip(family.buckets + (float("inf"),), value[2]):
        cumulative_count += count
        yield bound, cumulative_count


def _sample(family: Family, values: tuple[str, ...], value: Value) -> dict[str, Any]:
    sample: dict[str, Any] = {"labels": dict(zip(family.labels, values))}
    if not isinstance(value, list):
        return dict(sample, value=value)
    buckets = [
        [None if bound == float("inf") else bound, cumulative_count]
        for bound, cumulative_count in _cumulative(family, value)
    ]
    return dict(sample, count=value[0], sum=value[1], buckets=buckets)


def _line(name: str, labels: list[tuple[str, str]], value: float) -> str:
    labels_text = ",".join('%s="%s"' % (label, _escaped(text)) for label, text in labels)
    return "%s%s %s" % (name, "{%s}" % labels_text if labels_text else "", _number(value))


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return repr(value) if isinstance(value, float) and value % 1 else "%d" % value


def _escaped(text: str, quote: bool = True) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quote else text
