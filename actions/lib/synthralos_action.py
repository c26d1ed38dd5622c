"""The base class of the pack's actions: the one file that imports StackStorm.

It gives an action its environment and turns whatever happens into a result: what the action
returned, a refusal, or an error, redacted and in a form that StackStorm can store. A workflow
relies on that, and on `next`: it is left standing only where it brings the workflow forward.
"""

import os
import re
import time

from st2common.runners.base_action import Action

from synthralos.calls import trace_exporter
from synthralos.config.settings import Settings
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import encode_key_part, is_name
from synthralos.core.json_safe import to_json_safe
from synthralos.core.redaction import Redactor
from synthralos.core.sealing import STORED_PREFIX, is_case, seal, unseal
from synthralos.runtime import run_parameters
from synthralos.runtime.environment import Environment
from synthralos.runtime.workflow_run import record_remaining_calls
from synthralos.storage.datastore import BestEffortDatastore, DatastoreUnavailable
from synthralos.storage.retention_store import with_retention
from synthralos.storage.stackstorm_api import TIMEOUT_SECONDS, Api, StackStormError
from synthralos.telemetry import run_log, trace_context, tracing

# Sealed values would be damaged by redaction, and what was asked for is cleared of secrets already.
_UNREDACTED_FIELDS = ("next", "carry", "result", "recovery_result", "case", "stepLogs")
SAFETY_SECTIONS = (("redaction", "store_user_text"), ("redaction",), ("store_user_text",))
_EXECUTION_ID = re.compile(r"^[0-9a-f]{24}\Z")


class SynthralosAction(Action):
    """An action whose `run(self, **parameters)` returns `self.perform(work, parameters)`.

    :cvar now: seconds since the epoch; a test replaces it.
    :cvar key_seconds: how long a call to the datastore may take; a run that is at a deadline goes
        on without it rather than wait.
    :cvar runs_always: whether a wrong configuration is no reason not to run.
    :cvar intermediate_operations: operations after which a run continues though their result has
        no `next`.
    :ivar datastore: an object to use in place of StackStorm's datastore; a test sets it.
    """

    now = staticmethod(time.time)
    key_seconds = TIMEOUT_SECONDS
    runs_always = False
    intermediate_operations = ()
    datastore = None

    def perform(self, work, parameters):
        """The result of `work(env, parameters)`: a mapping, or (succeeded, mapping).

        InvalidInput becomes a failed execution whose `error` names the field and the way out; its
        `carry` lets the task that logs the failure say so too. So does any other exception, whose
        traceback goes to the action's standard error.
        """
        redactor = Redactor()
        tracer = tracing.Tracer(self._name(work), self._execution_id(), self.now)
        with (
            run_log.output_to(redact=redactor.redact_text, now=self.now),
            tracing.use_tracer(tracer),
        ):
            env, succeeded, result = self._run_guarded(work, parameters, redactor)
            if tracer.recording:
                try:
                    self._trace(env, tracer, work, succeeded, result)
                except Exception:
                    # The run has its result; whatever is wrong with its trace takes nothing away.
                    run_log.write_traceback(redactor.redact_text)
        return succeeded, result

    def _run_guarded(self, work, parameters, redactor):
        env = None
        try:
            env = self._environment(parameters, redactor)
            outcome = work(env, parameters)
        except InvalidInput as error:
            outcome = False, _error_result(error.as_error(), parameters, redactor, env)
        except (StackStormError, DatastoreUnavailable) as error:
            error_info = {"cause": "stackstorm_api", "message": str(error)}
            outcome = False, _error_result(error_info, parameters, redactor, env)
        except Exception as error:
            # Whatever it is: the workflow must go on to the task that logs the failure.
            run_log.write_traceback(redactor.redact_text)
            message = "%s in the action; its standard error says where" % type(error).__name__
            error_info = {"cause": "internal", "message": message}
            outcome = False, _error_result(error_info, parameters, redactor, env)
        if env is not None:
            record_remaining_calls(env)
        succeeded, result = outcome if isinstance(outcome, tuple) else (True, outcome)
        return env, succeeded, _finalize_result(result, parameters, redactor, env)

    def execution(self, env, parameters):
        """(parameters, started) of the run that `execution_id` names, else of this action itself.
        """
        inputs, started, _ = self.intake(env, parameters)
        return inputs, started

    def intake(self, env, parameters):
        """(parameters, started, execution) as `execution` gives them; the last is {} without one.
        """
        execution_id = parameters.get("execution_id")
        if not execution_id:
            inputs = {name: value for name, value in parameters.items() if value is not None}
            inputs = run_parameters.resolve_placeholders(inputs, None, env.store)
            _join_trace(env, inputs, None, None)
            return inputs, env.now(), {}
        execution = self.read(env, execution_id)
        ref = (execution.get("action") or {}).get("ref") or ""
        started = run_parameters.start_time(execution, env.now())
        # A run that is refused here has its place in the trace too.
        _join_trace(env, execution.get("parameters") or {}, ref.partition(".")[2], started)
        run_parameters.require_enabled(execution, env.store)
        inputs = run_parameters.read_parameters(execution, env.store)
        _join_trace(env, inputs, ref.partition(".")[2], started)
        return inputs, started, execution

    def case(self, env, parameters, workflow):
        """The content of the parameter `case`, which must be one of `workflow`. None when not
        given.
        """
        if not parameters.get("case"):
            return None
        case = unseal(parameters["case"], env.store)
        if not isinstance(case, dict) or case.get("workflow") != workflow:
            raise InvalidInput(
                "case",
                parameters["case"],
                "is not a case of %s" % workflow,
                "Pass on the case of that run",
            )
        cursor = parameters.get("cursor")
        if cursor is not None and cursor != case["progress"]["cursor"]:
            raise InvalidInput(
                "cursor",
                cursor,
                "does not belong to this case",
                "Pass on `next` as it was returned",
            )
        env.run = case["run"]
        _join_case_trace(env, case)
        return case

    def case_for_failure_log(self, env, parameters, workflow):
        """(case or None, parameters of the run) for the task that logs a failure.

        Nothing here raises: a failure must be logged whatever the state of what it left.
        """
        case = None
        if parameters.get("case"):
            try:
                case = unseal(parameters["case"], env.store)
            except (InvalidInput, DatastoreUnavailable) as error:
                self._warn(env, "the case cannot be opened", error)
            except Exception:
                run_log.write_traceback(env.redactor.redact_text)
        if not isinstance(case, dict) or case.get("workflow", workflow) != workflow:
            case = None
        inputs = dict(parameters)
        if parameters.get("execution_id") and (case is None or "progress" not in case):
            try:
                inputs.update(self.read(env, parameters["execution_id"]).get("parameters") or {})
            except (InvalidInput, StackStormError) as error:
                self._warn(env, "the run cannot be read", error)
            except Exception:
                run_log.write_traceback(env.redactor.redact_text)
        if case is not None and "progress" in case:
            _join_case_trace(env, case)
        elif parameters.get("execution_id"):
            trace_source = dict(inputs, trace=(case or {}).get("trace"))
            _join_trace(env, trace_source, workflow, None)
        return case, inputs

    def _warn(self, env, problem, error):
        self.logger.warning("%s: %s", problem, env.redactor.redact_text(str(error)))

    def read(self, env, execution_id, *attributes):
        """The execution of that id, as StackStorm holds it. InvalidInput when it is no id."""
        if not _EXECUTION_ID.match(str(execution_id)):
            raise InvalidInput(
                "execution_id", execution_id, "is not an execution id", "Give 24 hexadecimal digits"
            )
        if env.api is None:
            raise InvalidInput(
                "execution_id",
                execution_id,
                "no StackStorm API is available to read it from",
                "Give plain parameters",
            )
        return env.api.execution(execution_id, *attributes)

    def _name(self, work):
        """The action, for its span."""
        return _snake(type(self).__name__)

    @staticmethod
    def _execution_id():
        return os.environ.get("ST2_ACTION_EXECUTION_ID") or "local-%d" % os.getpid()

    def _trace(self, env, tracer, work, succeeded, result):
        """Sends the action's spans: its result is made, and no part of it waits for that."""
        logs_failure = type(self).__name__.startswith("Log")
        is_intermediate = getattr(work, "__name__", "").strip("_") in self.intermediate_operations
        ended = (succeeded or logs_failure) and result.get("next") is None and not is_intermediate
        failed = result.get("success") is False or result.get("next_task") == "failed"
        error = result.get("error")
        cause = (error.get("cause") if isinstance(error, dict) else None) or "failed"
        following = result.get("next") or {}
        facts = {
            "synthralos.attempts": result.get("attempts"),
            "synthralos.wait_seconds": following.get("delay") or None,
        }
        tracer.finish(
            cause if not succeeded else None, facts, ended,
            cause if logs_failure or (failed and not result.get("dry_run")) else None,
        )
        if tracer.worth_sending():
            trace_exporter.export(env.client, env.tracing, tracer, env.redactor)

    def _settings(self, config):
        try:
            return Settings.from_config(config)
        except InvalidInput:
            if not self.runs_always:
                raise
            self.logger.warning("the configuration is wrong; its defaults are used")
        for names in SAFETY_SECTIONS:
            # What keeps text from being shown or stored holds, where it is right itself.
            try:
                return Settings.from_config({name: config.get(name) for name in names})
            except InvalidInput:
                continue
        return Settings.from_config({})

    def _environment(self, parameters, redactor):
        # The configuration is a mapping that raises on a missing key; a plain one does not.
        config = dict(self.config or {})
        settings = self._settings(config)
        redactor.redaction = settings.redaction
        for secret in settings.secrets():
            redactor.add(secret)
        api = _api(config.get("stackstorm") or {}, self.key_seconds)
        run = parameters.get("execution_id") or os.environ.get("ST2_ACTION_EXECUTION_ID") or ""
        datastore = self.datastore if self.datastore is not None else api
        store = BestEffortDatastore(with_retention(datastore, settings))
        is_workflow = bool(parameters.get("execution_id"))
        env = Environment(
            settings, store, self.now, run, redactor, api, is_workflow=is_workflow,
            own_process=True,
        )
        run_log.bind(run=self._execution_id())
        env.tracing = _tracing(settings)
        return env


class ResourceAction(SynthralosAction):
    """Several actions in one class: the parameter `operation`, which each action's metadata sets,
    names the method `_<operation>(self, env, parameters)` that is the work.

    :cvar resource: of the actions `resource.verb`, as their spans name it; default: the class.
    """

    resource = None

    def run(self, operation, **parameters):
        return self.perform(getattr(self, "_" + operation), parameters)

    def _name(self, work):
        operation = getattr(work, "__name__", "").strip("_")
        return "%s.%s" % (self.resource or _snake(type(self).__name__), operation)


def _tracing(settings):
    """Where traces go, or None; what is wrong with these entries ends no run."""
    try:
        run_log.configure(run_log.LogConfig.from_config(settings.logs))
    except InvalidInput as error:
        run_log.emit("configuration_ignored", field=error.field)
    try:
        tracing_config = trace_exporter.Tracing.from_config(settings.tracing)
    except InvalidInput as error:
        run_log.emit("configuration_ignored", field=error.field)
        return None
    if tracing_config is not None:
        tracing.configure(tracing_config.sample_ratio)
    return tracing_config


def _join_case_trace(env, case):
    request = case.get("request") if isinstance(case.get("request"), dict) else {}
    trace_source = dict(request, trace=case.get("trace"))
    _join_trace(env, trace_source, case.get("workflow"), case.get("started"))


def _join_trace(env, inputs, workflow, started):
    """The action belongs to the run `env.run`, which was given `inputs`."""
    agent = inputs.get("agent_id")
    agent = agent if is_name(agent) else None
    run_log.bind(run=env.run, agent=agent)
    trace = inputs.get("trace") or trace_context.extract_from_parameters(inputs)
    tracing.join_run(env.run, trace, workflow, started, {"gen_ai.agent.id": agent})


def _snake(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _api(config, key_seconds):
    url = os.environ.get("ST2_ACTION_API_URL")
    if not url:
        return None
    verify = (
        config.get("ca_bundle") or
        os.environ.get("REQUESTS_CA_BUNDLE") or
        config.get("verify", True)
    )
    token = os.environ.get("ST2_ACTION_AUTH_TOKEN")
    return Api(url, token, verify=verify, key_seconds=key_seconds)


def _error_result(error, parameters, redactor, env):
    """The result of an action that `error` ended; its `carry` takes the error to the log task."""
    error = redactor.redact_value(error)
    store, case = (env.store, None) if env is not None else (None, None)
    if parameters.get("case"):
        try:
            case = unseal(parameters["case"], store)
        except (InvalidInput, DatastoreUnavailable):
            # Without it the log task knows the run by its execution.
            case = None
        except Exception:
            run_log.write_traceback(redactor.redact_text)
            case = None
    content = dict(case if isinstance(case, dict) else {}, refused=error)
    key = (
        None if env is None else "%s%s.ended" % (STORED_PREFIX, encode_key_part(env.run or "none"))
    )
    carry = seal(content, store, key)
    return {"summary": error["message"], "error": error, "next": None, "carry": carry}


def _finalize_result(result, parameters, redactor, env):
    final = {
        name: value if name in _UNREDACTED_FIELDS else redactor.redact_value(value)
        for name, value in result.items()
    }
    final["next"] = _valid_next(result.get("next"), parameters.get("cursor"))
    if final["next"] is None and "next" not in result:
        del final["next"]
    if env is not None and env.client.guard is not None and env.client.guard.warnings:
        final["over_budget"] = env.client.guard.warnings
    note = env.store.unrecorded_note() if env is not None else None
    if note:
        final["unrecorded"] = redactor.redact_text(note)
    return to_json_safe(final)


def _valid_next(following, cursor):
    """`following` when it brings a workflow forward, else None: no result can make one loop for
    ever.
    """
    if not isinstance(following, dict):
        return None
    next_cursor, delay = following.get("cursor"), following.get("delay")
    are_counts = all(
        isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in (next_cursor, delay)
    )
    if not are_counts or (cursor is not None and next_cursor <= cursor):
        return None
    # It becomes a task's input: anything but a case would be evaluated, or fail the run unlogged.
    return following if is_case(following.get("carry")) else None
