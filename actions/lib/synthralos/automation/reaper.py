"""Closes the runs that nothing will end: logged, ticketed, ended.

An action runner that dies leaves its action `running` and the workflow waiting; a run that is
cancelled gets no log task; and StackStorm ends no approval by itself unless told to.
"""

from synthralos.automation import approvals
from synthralos.infrastructure import record as infrastructure_record
from synthralos.names import key_part
from synthralos.recovery import record
from synthralos.state.datastore import PREFIX
from synthralos.state.stackstorm import ENDED
from synthralos.times import seconds_of, timestamp

WORKFLOWS = (
    "agent_recovery", "llm_retry", "reroute_request", "handle_error", "infrastructure_repair",
)
# Seconds past its deadline that a run has to end by itself.
GRACE = 60
LOOK_BACK = 6 * 3600
_LOGGED_SECONDS = 2 * 24 * 3600
_LIVE = ("requested", "scheduled", "running", "pausing", "resuming", "canceling")
# Not `action.parameters.timeout`: StackStorm adds action.parameters where parameters are asked for,
# and MongoDB refuses a field beside one that contains it.
_ATTRIBUTES = "id,status,start_timestamp,parameters,action.ref,action.parameters,context"
_DEAD = "its action runner died: it has run past the deadline of its run"


def reap(env, config):
    """{summary, abandoned, canceled, logged, expired}: lists of {run, workflow ...}."""
    done = {"abandoned": [], "canceled": [], "logged": [], "expired": []}
    if config.approval_timeout:
        done["expired"] = approvals.expire(env, config.approval_timeout)
    for workflow in WORKFLOWS:
        ref = "synthralos." + workflow
        for status in _LIVE:
            for run in env.api.executions(_ATTRIBUTES, action=ref, status=status):
                if env.now() > _deadline(run) + GRACE:
                    _close(env, workflow, run, done)
        since = timestamp(env.now() - LOOK_BACK)
        for status in ("canceled", "abandoned", "timeout"):
            for run in env.api.executions(
                _ATTRIBUTES, action=ref, status=status, timestamp_gt=since
            ):
                _log(env, workflow, run, "the run was ended as %s" % status, done)
    counts = ", ".join("%d %s" % (len(found), name) for name, found in done.items())
    return dict({"summary": counts}, **done)


def _close(env, workflow, run, done):
    """Ends what keeps `run` from ending; when nothing does, the run."""
    attributes = "id,status,action.ref,action.runner_type,start_timestamp"
    children = env.api.children(run["id"], attributes)
    live = [child for child in children if child.get("status") not in ENDED]
    dead = [child for child in live if not _is_workflow(child)]
    for child in dead:
        # With that the workflow goes on to its log task by itself.
        if env.api.set_status(child["id"], "abandoned", {"error": _DEAD}):
            done["abandoned"].append(
                {"run": run["id"], "workflow": workflow, "execution": child["id"]}
            )
    if live or run["status"] == "canceling":
        return
    if env.api.cancel(run["id"]):
        done["canceled"].append({"run": run["id"], "workflow": workflow})


def _is_workflow(child):
    return (child.get("action") or {}).get("runner_type") == "orquesta"


def _log(env, workflow, run, why, done):
    """Writes the record that the run's own log task did not, once."""
    parent = (run.get("context") or {}).get("parent") or {}
    key = "%sreaped.%s" % (PREFIX, key_part(run["id"]))
    if parent.get("pack") == approvals.PACK or env.store.get(key) is not None:
        return
    if not env.store.put(key, "1", _LOGGED_SECONDS):
        return
    error = {"cause": "cancelled", "message": why}
    # The record is the run's, not the reaper's.
    own, env.run = env.run, run["id"]
    try:
        given = run.get("parameters") or {}
        if workflow == infrastructure_record.WORKFLOW:
            told = infrastructure_record.record(env, None, given, dict(error, reason=why))
        else:
            told = record.record(env, workflow, {"refused": error}, given)
    finally:
        env.run = own
    done["logged"].append({"run": run["id"], "workflow": workflow, "ticket": told["ticket"]})


def _deadline(run):
    """When the run should have ended at the latest, in seconds since the epoch."""
    declared = ((run.get("action") or {}).get("parameters") or {}).get("timeout") or {}
    seconds = (run.get("parameters") or {}).get("timeout") or declared.get("default") or 3600
    return (seconds_of(run.get("start_timestamp")) or 0) + seconds
