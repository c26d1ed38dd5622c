from synthralos.reports import render, run_data
from synthralos.storage.datastore import DatastoreUnavailable
from synthralos_action import ResourceAction


class Reports(ResourceAction):
    """`report.render`: what a run, a ticket or a period came to, to be read, printed or sent."""

    # Nothing waits for it, and a week is some pages of the datastore.
    key_seconds = 15.0

    def _render(self, env, parameters):
        execution = None
        if parameters.get("execution_id"):
            execution = self.read(env, parameters["execution_id"], run_data.ATTRIBUTES)
        report = render.build_report(
            env, execution, parameters.get("ticket_id"), parameters.get("days")
        )
        if env.store.unavailable_reason:
            # What could not be read is not nothing.
            raise DatastoreUnavailable(env.store.unavailable_reason)
        body = render.render(report, parameters["format"])
        summary = {
            "summary": "%s: %s" % (report.title, report.outcome.text),
            "format": parameters["format"],
            "bytes": len(body.encode("utf-8", "replace")),
            "body": body,
        }
        return dict(summary, **report.data)
