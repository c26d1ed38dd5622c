"""`report.render`: the report on a run, a ticket or a period, as HTML or Markdown."""

from typing import TYPE_CHECKING, Callable, Optional

from synthralos.core.errors import InvalidInput
from synthralos.reports import html, markdown, period_report, run_data, run_report, ticket_report
from synthralos.reports.document import Report
from synthralos.storage import tickets

if TYPE_CHECKING:
    from synthralos.runtime.environment import Environment
    from synthralos.storage.stackstorm_api import Row

HTML, MARKDOWN = FORMATS = ("html", "markdown")
MAX_REPORT_BYTES = 512 * 1024
# Maximum rows of each table, tried in this order until the report fits.
_ROW_LIMITS = (200, 50, 10)
_FORMS: dict[str, Callable[[Report, int], str]] = {HTML: html.render, MARKDOWN: markdown.render}


def build_report(
    env: "Environment",
    execution: "Optional[Row]" = None,
    ticket_id: Optional[str] = None,
    days: Optional[int] = None,
) -> Report:
    """Build the report on exactly one of the parameters.

    :param execution: an execution as run_data.load_run takes it.
    :raises InvalidInput: none or several parameters were set, or the ticket or run is unknown.
    :raises StackStormError: StackStorm's API is unavailable.
    """
    sources = [source for source in (execution, ticket_id, days) if source is not None]
    if len(sources) != 1:
        raise InvalidInput(
            "execution_id, ticket_id, days", None, "%d of them are given" % len(sources),
            "Set exactly one: a run, a ticket, or a number of days",
        )
    if execution is not None:
        return run_report.build_run_report(env, run_data.load_run(env, execution))
    if ticket_id is not None:
        return ticket_report.build_ticket_report(env, tickets.get(env.store, ticket_id))
    assert days is not None
    return period_report.build_period_report(env, days)


def render(report: Report, form: str) -> str:
    """Render a report in at most MAX_REPORT_BYTES; rows are left out until it fits."""
    for max_rows in _ROW_LIMITS:
        body = _FORMS[form](report, max_rows)
        if len(body.encode("utf-8", "replace")) <= MAX_REPORT_BYTES:
            break
    return body
