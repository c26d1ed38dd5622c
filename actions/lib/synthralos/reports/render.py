"""What report.render gives: the report of a run, a ticket or a period, in one of its forms."""

from synthralos.core.errors import InvalidInput
from synthralos.reports import html, markdown, period_report, run_data, run_report, ticket_report
from synthralos.storage import tickets

HTML, MARKDOWN = FORMATS = ("html", "markdown")
MAX_REPORT_BYTES = 512 * 1024
# Rows of each table that are shown, until the whole fits.
_ROW_LIMITS = (200, 50, 10)
_FORMS = {HTML: html.render, MARKDOWN: markdown.render}


def build_report(env, execution=None, ticket_id=None, days=None):
    """The document.Report of exactly one of these. Raises InvalidInput, StackStormError.

    :param execution: as reading.read takes it.
    """
    sources = [source for source in (execution, ticket_id, days) if source is not None]
    if len(sources) != 1:
        raise InvalidInput(
            "execution_id, ticket_id, days", None, "%d of them are given" % len(sources),
            "Give exactly one: a run, a ticket, or how many days back",
        )
    if execution is not None:
        return run_report.build_run_report(env, run_data.load_run(env, execution))
    if ticket_id is not None:
        return ticket_report.build_ticket_report(env, tickets.get(env.store, ticket_id))
    return period_report.build_period_report(env, days)


def render(report, form):
    """The text of the report, of at most LARGEST bytes: rows are left out until it fits."""
    for max_rows in _ROW_LIMITS:
        body = _FORMS[form](report, max_rows)
        if len(body.encode("utf-8", "replace")) <= MAX_REPORT_BYTES:
            break
    return body
