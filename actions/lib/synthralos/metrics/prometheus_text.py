"""Metrics as text, in Prometheus's exposition format 0.0.4, and as JSON."""

from synthralos.metrics.definitions import HISTOGRAM

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def to_prometheus_text(found):
    """The exposition of `found`: {Family: {values of labels: number or [count, sum, counts]}}.

    The counts of a histogram are those of its buckets, each by itself, the last that of +Inf.
    """
    lines = []
    for family, series in found.items():
        if not series:
            continue
        lines.append("# HELP %s %s" % (family.name, _escaped(family.help, quote=False)))
        lines.append("# TYPE %s %s" % (family.name, family.type))
        for values in sorted(series):
            lines += _lines(family, list(zip(family.labels, values)), series[values])
    return "".join(line + "\n" for line in lines)


def to_json(found):
    """[{name, type, help, samples: [{labels, value}]}]; a histogram's sample has count, sum and
    buckets [[upper bound, cumulative count]], the last bound being null for +Inf.
    """
    return [
        {
            "name": family.name,
            "type": family.type,
            "help": family.help,
            "samples": [_sample(family, values, series[values]) for values in sorted(series)],
        }
        for family, series in found.items()
        if series
    ]


def _lines(family, labels, value):
    if family.type != HISTOGRAM:
        return [_line(family.name, labels, value)]
    count, total, _ = value
    lines = [
        _line(family.name + "_bucket", labels + [("le", _number(bound))], reached)
        for bound, reached in _cumulative(family, value)
    ]
    return lines + [
        _line(family.name + "_sum", labels, total), _line(family.name + "_count", labels, count)
    ]


def _cumulative(family, value):
    reached = 0
    for bound, counted in zip(family.buckets + (float("inf"),), value[2]):
        reached += counted
        yield bound, reached


def _sample(family, values, value):
    told = {"labels": dict(zip(family.labels, values))}
    if family.type != HISTOGRAM:
        return dict(told, value=value)
    buckets = [
        [None if bound == float("inf") else bound, reached]
        for bound, reached in _cumulative(family, value)
    ]
    return dict(told, count=value[0], sum=value[1], buckets=buckets)


def _line(name, labels, value):
    told = ",".join('%s="%s"' % (label, _escaped(text)) for label, text in labels)
    return "%s%s %s" % (name, "{%s}" % told if told else "", _number(value))


def _number(value):
    if value == float("inf"):
        return "+Inf"
    return repr(value) if isinstance(value, float) and value % 1 else "%d" % value


def _escaped(text, quote=True):
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quote else text
