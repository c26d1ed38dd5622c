"""Renders metrics in Prometheus's text exposition format 0.0.4 and as JSON."""

from synthralos.metrics.definitions import HISTOGRAM

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def to_prometheus_text(series_by_family):
    """Render series in the text exposition format.

    :param series_by_family: {Family: {label values: number or [count, sum, counts]}}. The counts of
        a histogram are per bucket, not cumulative; the last one is that of +Inf.
    """
    lines = []
    for family, series in series_by_family.items():
        if not series:
            continue
        lines.append("# HELP %s %s" % (family.name, _escaped(family.help, quote=False)))
        lines.append("# TYPE %s %s" % (family.name, family.type))
        for values in sorted(series):
            lines += _lines(family, list(zip(family.labels, values)), series[values])
    return "".join(line + "\n" for line in lines)


def to_json(series_by_family):
    """Render series as JSON.

    :returns: [{name, type, help, samples: [{labels, value}]}]. The sample of a histogram has count,
        sum and buckets [[upper bound, cumulative count]]; the last bound is null for +Inf.
    """
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


def _lines(family, labels, value):
    if family.type != HISTOGRAM:
        return [_line(family.name, labels, value)]
    count, total, _ = value
    lines = [
        _line(family.name + "_bucket", labels + [("le", _number(bound))], cumulative_count)
        for bound, cumulative_count in _cumulative(family, value)
    ]
    return lines + [
        _line(family.name + "_sum", labels, total), _line(family.name + "_count", labels, count)
    ]


def _cumulative(family, value):
    cumulative_count = 0
    for bound, count in zip(family.buckets + (float("inf"),), value[2]):
        cumulative_count += count
        yield bound, cumulative_count


def _sample(family, values, value):
    sample = {"labels": dict(zip(family.labels, values))}
    if family.type != HISTOGRAM:
        return dict(sample, value=value)
    buckets = [
        [None if bound == float("inf") else bound, cumulative_count]
        for bound, cumulative_count in _cumulative(family, value)
    ]
    return dict(sample, count=value[0], sum=value[1], buckets=buckets)


def _line(name, labels, value):
    labels_text = ",".join('%s="%s"' % (label, _escaped(text)) for label, text in labels)
    return "%s%s %s" % (name, "{%s}" % labels_text if labels_text else "", _number(value))


def _number(value):
    if value == float("inf"):
        return "+Inf"
    return repr(value) if isinstance(value, float) and value % 1 else "%d" % value


def _escaped(text, quote=True):
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quote else text
