"""A pack on one machine: requests its actions, runs them, and stores their results."""
import collections
import os
import subprocess
import threading
import time
import traceback

from st2local import masking, python_runner, rendering, shell_runner
from st2local.config import check_config, resolve
from st2local.datastore import Datastore
from st2local.errors import ConfigError, InvalidInput, NotFound
from st2local.executions import COMPLETED, Execution
from st2local.ids import new_id, timestamp
from st2local.pack import Pack
from st2local.progress import Silent
from st2local.store import Store
from st2local.validation import check, check_parameters

USER = "st2admin"
RULES_USER = "stanley"
POLL_SECONDS = 0.2
# The wait for events that happen at once unless the machine is busy.
PATIENCE_SECONDS = 300

Firing = collections.namedtuple("Firing", "id trigger payload timestamp")


class St2Local:
    """Runs a pack's actions and workflows.

    :param pack_dir: the pack's folder.
    :param config: the pack's config, as its file would hold it: a dict. None is an empty one that
        is not checked, like that of a pack whose config was never registered.
    :param state: the folder to keep state in.
    :param delay: called with the seconds of a task's delay instead of sleeping them.
    :param clock: a function that returns the seconds since 1970, for every recorded time.
    :param user: the user of runs that do not name one.
    :param progress: receives live lines; see progress.py.
    :param source: where the config is from, for messages.
    :param packs: the folders of further packs, whose actions can be run, too; they have no config.
        One of the name core replaces the actions of StackStorm's that st2local has.
    :param popen: starts the process of each python-script action, as subprocess.Popen does.
    :raises ConfigError: if the config does not match config.schema.yaml.

    `delays` lists the delays of tasks, in seconds, in the order they began.
    """

    def __init__(self, pack_dir, config=None, state=None, delay=None, clock=time.time, user=USER,
                 progress=None, source="the given config", packs=(), popen=subprocess.Popen):
        self.pack = Pack(pack_dir)
        self._other_packs = {pack.ref: pack for pack in map(Pack, packs)}
        self.config = {} if config is None else config
        if config is not None:
            check_config(self.pack, config, source)
        self.clock, self.user = clock, user
        self.progress = progress or Silent()
        self.delays = []
        self.store = Store(state or os.path.join(self.pack.folder, ".st2local"))
        self.keys = Datastore(self.store, clock)
        self.token = os.urandom(16).hex()
        self._delay, self._popen = delay, popen
        self._server = None
        self._lock = threading.Lock()
        self._live = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """End running executions, the API server and the state."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._live and time.monotonic() < deadline:
            for execution in list(self._live.values()):
                self.stop(execution)
                if isinstance(execution.run, python_runner.Job):
                    execution.run.kill()
            time.sleep(0.01)
        if self._server is not None:
            self._server.close()
        self.store.close()

    def running(self):
        """Return the running executions without the tasks within them: dicts, oldest first."""
        return [self.masked(execution.document()) for execution in list(self._live.values())
                if not execution.context.get("parent")]

    @property
    def api_url(self):
        """The address of StackStorm's API for actions; ends in /v1. Served from the first use."""
        with self._lock:
            if self._server is None:
                from st2local.api import Server

                self._server = Server(self)
            return self._server.url

    def find_action(self, ref):
        return self._pack_of(str(ref).partition(".")[0]).action(ref)

    def _pack_of(self, name):
        return self._other_packs.get(name, self.pack)

    def run(self, ref, parameters=None, **options):
        """Run an action to its end and return the execution, a dict; options as for `start`."""
        return self.start(ref, parameters, **options).wait()

    def start(self, ref, parameters=None, user=None, trigger_instance=None, rule=None):
        """Start an action and return a Handle.

        :param trigger_instance: `{"payload": {...}, "trigger": ref}` as from a rule: the run counts
            as started by a rule, and has the rules engine's user.
        :param rule: that rule's ref.
        :raises InvalidInput: if StackStorm would answer 400.
        """
        action = self.find_action(ref)
        if action is None:
            raise InvalidInput('Action "%s" cannot be found.' % ref)
        origin, context = None, {"user": user or self.user, "pack": action.pack}
        if trigger_instance is not None or rule is not None:
            origin, context = self._from_rule(action, user, trigger_instance or {}, rule)
        return self._begin(action, parameters or {}, context, origin)

    def re_run(self, execution_id, parameters=None, user=None):
        """Run an execution again, with `parameters` over its own, and return a Handle.

        :raises NotFound: if it does not exist.
        :raises InvalidInput: if StackStorm would answer 400.
        """
        document = self.execution(execution_id, show_secrets=True)
        ref = document["action"]["ref"]
        action = self.find_action(ref)
        if action is None:
            raise InvalidInput('Action "%s" cannot be found.' % ref)
        context = {
            "user": user or self.user, "pack": action.pack, "re-run": {"ref": execution_id}
        }
        again = dict(document.get("parameters") or {}, **(parameters or {}))
        return self._begin(action, again, context)

    def _begin(self, action, parameters, context, origin=None):
        execution = self.request(action, parameters, context, origin=origin)
        self.progress.requested(execution, None, None)
        return Handle(self, execution)

    def _from_rule(self, action, user, instance, rule):
        unknown = set(instance) - {"payload", "trigger", "id"}
        if unknown:
            raise ValueError(
                "trigger_instance: unknown %s; allowed: payload, trigger, id" % sorted(unknown))
        trigger = instance.get("trigger") or "core.st2.webhook"
        rule = rule or "%s.rule" % self.pack.ref
        context = {
            "user": user or RULES_USER,
            "pack": action.pack,
            "trigger_instance": {"id": instance.get("id") or new_id(), "name": None},
            "rule": {"id": new_id(), "name": rule.split(".", 1)[-1]},
        }
        now = timestamp(self.clock())
        origin = {
            "trigger_instance": {
                "id": context["trigger_instance"]["id"], "trigger": trigger,
                "payload": instance.get("payload") or {}, "occurrence_time": now,
                "status": "processed",
            },
            "trigger": {"ref": trigger, "type": trigger, "parameters": {}},
            "rule": {
                "id": context["rule"]["id"], "ref": rule, "name": context["rule"]["name"],
                "pack": rule.split(".", 1)[0], "enabled": True,
            },
        }
        return origin, context

    def request(self, action, parameters, context, parent=None, origin=None):
        """Render, cast and validate the parameters, and record the execution.

        :raises InvalidInput: if StackStorm would reject the request.
        """
        if not action.enabled:
            raise InvalidInput('Unable to execute. Action "%s" is disabled.' % action.ref)
        try:
            config = self.config_of(action.pack)
        except ConfigError:
            # StackStorm still requests the action, and fails it when it starts.
            config = {}
        parameters = rendering.live(action, parameters, context, config, self.keys)
        check_parameters(action, parameters)
        execution = Execution(
            self.store, self.clock, action, parameters, context, parent=parent, origin=origin)
        self._live[execution.id] = execution
        return execution

    def config_of(self, pack):
        """Return the pack's config with values of the datastore and defaults.

        :raises ConfigError: if the datastore lacks a secret.
        """
        return resolve(self.pack, self.config, self.keys) if pack == self.pack.ref else {}

    def perform(self, execution, seconds=0, on_change=None, resume_parent=None):
        """Run a requested execution in this thread and return (status, result).

        :param seconds: the delay before it starts.
        :param on_change: called with each status that a parent workflow must handle.
        :param resume_parent: called when an inquiry was answered.
        """
        if seconds:
            self._wait(execution, seconds)
        if execution.canceled.is_set():
            status, result = "canceled", None
        else:
            execution.set_status("running")
            try:
                status, result = self._outcome(
                    execution, on_change or (lambda _: None), resume_parent or (lambda: None))
            except Exception as error:
                # StackStorm's runner container turns an error of its own into this result.
                status = "failed"
                result = {"error": str(error),
                          "traceback": "".join(traceback.format_tb(error.__traceback__))}
        status = execution.ended_as or status
        execution.set_status(status, result)
        self._live.pop(execution.id, None)
        self.progress.ended(execution)
        return status, result

    def _wait(self, execution, seconds):
        execution.set_delay(seconds)
        execution.set_status("delayed")
        self.delays.append(seconds)
        self.progress.waiting(execution, seconds)
        if self._delay is None:
            execution.canceled.wait(seconds)
        else:
            self._delay(seconds)

    def _outcome(self, execution, on_change, resume_parent):
        action = execution.action
        try:
            config = self.config_of(action.pack)
            runner_parameters, parameters = rendering.final(
                action, execution.parameters, execution.context, config, self.keys)
        except InvalidInput as error:
            return "failed", {"error": str(error), "traceback": ""}
        if action.runner == "noop":
            return "succeeded", None
        if action.runner == "inquirer":
            return self._ask(execution, runner_parameters, on_change, resume_parent)
        if action.runner == "orquesta":
            from st2local.workflow import WorkflowRun

            run = WorkflowRun(self, execution, parameters, on_change)
            execution.run = run
            if execution.canceled.is_set():
                run.cancel()
            return run.run()
        return self._process(execution, config, runner_parameters, parameters)

    def _process(self, execution, config, runner_parameters, parameters):
        action = execution.action
        if action.runner == "local-shell-cmd":
            job = python_runner.Job(with_children=True)
        else:
            job = python_runner.Job(popen=self._popen)
        execution.run = job
        environment = {
            "ST2_ACTION_PACK_NAME": action.pack,
            "ST2_ACTION_EXECUTION_ID": execution.id,
            "ST2_ACTION_API_URL": self.api_url,
            "ST2_ACTION_AUTH_TOKEN": self.token,
        }

        def on_line(stream, line):
            execution.add_line(stream, line)
            self.progress.line(execution, stream, line)

        if action.runner == "local-shell-cmd":
            status, result = shell_runner.run(job, runner_parameters, environment, on_line)
        else:
            status, result = python_runner.run(
                job,
                action.entry_point,
                self._pack_of(action.pack),
                execution.context.get("user"),
                config,
                parameters,
                runner_parameters,
                environment,
                on_line,
            )
        # A cancelled action is killed if it runs by itself, and ends by itself in a workflow.
        return ("canceled" if execution.canceled.is_set() else status), result

    def _ask(self, execution, parameters, on_change, resume_parent):
        result = {
            name: parameters.get(name) for name in ("schema", "roles", "users", "route", "ttl")
        }
        execution.set_status("pending", result)
        self.store.add_trigger(
            new_id(), "core.st2.generic.inquiry",
            {"id": execution.id, "route": parameters.get("route")}, self.clock())
        self.progress.asking(execution)
        on_change("pending")
        while True:
            # Another process may answer, too.
            execution.settled.wait(POLL_SECONDS)
            if execution.canceled.is_set():
                if execution.ended_as is not None:
                    resume_parent()
                return "canceled", result
            response = self.store.response(execution.id)
            if response is not None:
                resume_parent()
                return "succeeded", dict(result, response=response)

    def respond(self, execution_id, response):
        """Answer an inquiry.

        :raises NotFound: if there is no such inquiry.
        :raises InvalidInput: for an invalid or a second answer.
        """
        document = self.store.execution(execution_id)
        if document is None or document["runner"]["name"] != "inquirer":
            raise NotFound('Inquiry with id "%s" not found.' % execution_id)
        if document["status"] != "pending":
            raise InvalidInput('Inquiry "%s" has already been responded to.' % execution_id)
        schema = document["result"]["schema"]
        try:
            check(response, schema)
        except InvalidInput as error:
            raise InvalidInput('Response for inquiry "%s" did not pass schema validation: %s'
                          % (execution_id, error)) from None
        if not self.store.respond(execution_id, response):
            raise InvalidInput('Inquiry "%s" has already been responded to.' % execution_id)
        execution = self._live.get(execution_id)
        if execution is not None:
            execution.answer(response)

    def set_status(self, execution_id, status):
        """End a live execution with `status`, abandoned or timeout, whatever it is doing.

        `resuming` has no effect: an inquiry that has ended resumes its parent by itself here.

        :raises NotFound: if it is not running here.
        :raises InvalidInput: for any other status.
        """
        execution = self.live(execution_id)
        if status == "resuming":
            return
        if status not in ("abandoned", "timeout"):
            raise InvalidInput(
                "st2local cannot set the status %r; use abandoned or timeout" % status)
        execution.ended_as = status
        self.stop(execution)
        if isinstance(execution.run, python_runner.Job):
            execution.run.kill()

    def cancel(self, execution):
        """Cancel a live execution that no workflow requested: a single action is killed."""
        self.stop(execution)
        if isinstance(execution.run, python_runner.Job) and not execution.context.get("parent"):
            execution.run.kill()

    def stop(self, execution):
        """Cancel a live execution."""
        execution.cancel()
        if execution.run is not None and hasattr(execution.run, "cancel"):
            execution.run.cancel()

    def live(self, execution_id):
        """Return the live execution of that id.

        :raises NotFound: if it is not running here.
        """
        try:
            return self._live[execution_id]
        except KeyError:
            raise NotFound('Execution "%s" is not running here.' % execution_id) from None

    def execution(self, execution_id, show_secrets=False):
        """Return the execution as a dict.

        :raises NotFound: if it does not exist.
        """
        document = self.store.execution(execution_id)
        if document is None:
            raise NotFound('ActionExecution with id "%s" not found.' % execution_id)
        return document if show_secrets else self.masked(document)

    def executions(self, parent=None, **filters):
        """Return executions as dicts, newest first.

        :param parent: only the children of that execution.

        filters: action, status, top (True: no children), limit, offset.
        """
        return [self.masked(document)
                for document in self.store.executions(parent=parent, **filters)]

    def masked(self, document):
        try:
            action = self.find_action(document["action"]["ref"])
        except InvalidInput:
            action = None
        return masking.masked(document, action)

    def fire(self, trigger, payload):
        """Record a trigger; nothing reacts to it, because rules do not run here."""
        self.store.add_trigger(new_id(), trigger, payload, self.clock())

    def triggers(self, trigger=None):
        """Return the fired triggers, oldest first: Firing(id, trigger, payload, timestamp)."""
        return [Firing(row[0], row[1], row[2], timestamp(row[3]))
                for row in self.store.triggers() if trigger in (None, row[1])]


class Handle:
    """A run in progress, in its own thread."""

    def __init__(self, local, execution):
        self._local, self._execution = local, execution
        self.id = execution.id
        # Not the thread's own join: before Python 3.13 a Ctrl-C in it marks the thread as ended.
        self._ended = threading.Event()
        threading.Thread(target=self._perform, name=execution.id, daemon=True).start()

    def _perform(self):
        try:
            self._local.perform(self._execution)
        finally:
            self._ended.set()

    @property
    def status(self):
        return self._execution.status

    def cancel(self):
        """Cancel the run. A workflow's running actions end by themselves; an action is killed."""
        self._local.cancel(self._execution)

    def pause(self):
        """Pause the workflow.

        :raises InvalidInput: if the run is not a workflow.
        """
        self._workflow().pause()

    def resume(self):
        """Resume the workflow.

        :raises InvalidInput: if the run is not a workflow.
        """
        self._workflow().resume()

    def _workflow(self):
        if self._execution.action.runner != "orquesta":
            raise InvalidInput("only a workflow can be paused")
        # The run begins in its own thread, a moment after the start.
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._execution.run is None and time.monotonic() < deadline:
            if self._execution.status in COMPLETED:
                raise InvalidInput("the execution has already ended")
            time.sleep(0.005)
        return self._execution.run

    def wait(self, timeout=None):
        """Wait for the end and return the execution as a dict.

        :raises TimeoutError: after `timeout` seconds.
        """
        if not self._ended.wait(timeout):
            raise TimeoutError("execution %s is still %s" % (self.id, self.status))
        return self.document()

    def wait_for(self, *statuses, timeout=PATIENCE_SECONDS):
        """Wait until the status is one of these and return the execution as a dict.

        :raises TimeoutError: after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while self.status not in statuses:
            if time.monotonic() > deadline:
                raise TimeoutError("execution %s is %s" % (self.id, self.status))
            time.sleep(0.005)
        return self.document()

    def document(self):
        return self._local.masked(self._execution.document())
