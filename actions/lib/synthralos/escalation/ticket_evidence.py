"""What is known about the failure behind a ticket: its alert, its last values, earlier repairs.

All texts are sanitized where they are collected: they come from labels, annotations and addresses
that others have written.
"""

from collections.abc import Iterator, Sequence
from typing import Optional, TypedDict


class SeriesValues(TypedDict):
    """The last samples of a series. `values`: [[ISO time, value as Prometheus writes it]]."""

    labels: dict[str, str]
    values: list[list[str]]


class PastRepair(TypedDict):
    """What a run of the pack did about a thing. `repairs`: [crew or runbook/step: outcome]."""

    at: str
    run: Optional[str]
    workflow: str
    outcome: str
    repairs: list[str]


class Evidence(TypedDict):
    """What is known about the failure of one thing.

    `subject`: the thing; `alertname`, `severity`, `starts_at`, `expression`, `value`: None where
    no alert reports it or nobody knows; `links`: {name: URL}; `series`: those of the alert;
    `omitted_series`: how many more there are; `past`: newest first; `problems`: what could not be
    determined, and why.
    """

    subject: str
    alertname: Optional[str]
    severity: Optional[str]
    starts_at: Optional[str]
    expression: Optional[str]
    value: Optional[str]
    links: dict[str, str]
    series: list[SeriesValues]
    omitted_series: int
    past: list[PastRepair]
    problems: list[str]


def lines_of(evidence: Sequence[Evidence]) -> list[str]:
    """Return the evidence as lines of Markdown, for people."""
    lines: list[str] = []
    for item in evidence:
        lines += ["- " + line for line in _lines(item)]
    return lines


def _lines(item: Evidence) -> Iterator[str]:
    yield item["subject"] if item["alertname"] is None else "%s: alert %s%s, since %s" % (
        item["subject"], item["alertname"] or "without a name",
        " (%s)" % item["severity"] if item["severity"] else "", item["starts_at"],
    )
    for label, text in (("Expression", item["expression"]), ("Value", item["value"])):
        if text:
            yield "%s: %s" % (label, text)
    for name, url in item["links"].items():
        yield "%s: %s" % (name, url)
    for series in item["series"]:
        labels = ", ".join("%s=%s" % pair for pair in series["labels"].items())
        values = ", ".join("%s at %s" % (value, at) for at, value in series["values"])
        yield "Last values of {%s}: %s" % (labels, values)
    if item["omitted_series"]:
        yield "Further series: %d" % item["omitted_series"]
    for past in item["past"]:
        repairs = ", ".join(past["repairs"])
        yield "Earlier, %s: %s %s%s, run %s" % (
            past["at"], past["workflow"], past["outcome"], ": " + repairs if repairs else "",
            past["run"] or "unknown",
        )
    for problem in item["problems"]:
        yield "Unknown: %s" % problem
