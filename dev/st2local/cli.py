"""The command line: run, execution, inquiry, key, action, trigger."""
import argparse
import os
import sys
import time

from st2local import arguments, configuration, output
from st2local.errors import InvalidInput
from st2local.local import St2Local
from st2local.pack import Pack
from st2local.progress import Live, Silent

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
INTERRUPTIBLE_SECONDS = 0.2


def main(words=None):
    """Run a command. Return the exit code: 0 for success, 1 for failure, 2 for a wrong command."""
    parser = _parser()
    options, rest = parser.parse_known_args(words)
    # Parameters may follow an option: `run pack.action a=1 -j b=2`.
    if rest and (options.command != "run" or any(word.startswith("-") for word in rest)):
        parser.error("unrecognized arguments: %s" % " ".join(rest))
    options.rest = rest
    try:
        return options.function(options) or 0
    except InvalidInput as error:
        print("ERROR: %s" % error, file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        return 130


def _parser():
    parser = argparse.ArgumentParser(
        prog="st2local", description="Runs the pack's actions and workflows without StackStorm.")
    parser.add_argument(
        "--pack", default=os.environ.get("ST2LOCAL_PACK", ROOT), help="the pack's folder")
    commands = parser.add_subparsers(dest="command", required=True)

    run = _command(commands, "run", _run, "run an action or a workflow and show its result")
    run.add_argument("action", metavar="PACK.ACTION")
    run.add_argument("parameters", nargs="*", metavar="NAME=VALUE")
    run.add_argument("--config", metavar="FILE", help="the pack's config")
    run.add_argument("--user", default=None, help="who runs it")
    run.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")

    execution = _group(commands, "execution", "past executions")
    list_command = _command(execution, "list", _execution_list, "newest first")
    list_command.add_argument("-n", "--last", type=int, default=50, metavar="N")
    list_command.add_argument("--tree", action="store_true", help="with the tasks of workflows")
    list_command.add_argument("--action", default=None)
    list_command.add_argument("--status", default=None)
    get_command = _command(execution, "get", _execution_get, "show an execution")
    get_command.add_argument("id")
    get_command.add_argument("-k", "--key", metavar="A.B", help="only this part of the result")
    get_command.add_argument(
        "--raw", action="store_true", help="print the value unformatted; implied by -k")

    inquiry = _group(commands, "inquiry", "open inquiries")
    _command(inquiry, "list", _inquiry_list, "unanswered inquiries")
    respond = _command(inquiry, "respond", _inquiry_respond, "answer an inquiry")
    respond.add_argument("id")
    respond.add_argument("response", nargs="+", metavar="NAME=VALUE")

    key = _group(commands, "key", "the datastore")
    list_command = _command(key, "list", _key_list, "by name")
    list_command.add_argument("--prefix", default="")
    list_command.add_argument("-n", "--last", type=int, default=-1, metavar="N")
    get_command = _command(key, "get", _key_get, "show a key")
    get_command.add_argument("name")
    get_command.add_argument("--decrypt", action="store_true")
    put = _command(key, "set", _key_set, "write a key")
    put.add_argument("name")
    put.add_argument("value")
    put.add_argument("--ttl", type=int, metavar="SECONDS")
    put.add_argument("--encrypt", action="store_true")
    _command(key, "delete", _key_delete, "delete a key").add_argument("name")

    action = _group(commands, "action", "the pack's actions")
    list_command = _command(action, "list", _action_list, "all of them")
    list_command.add_argument(
        "-p", "--pack", dest="of_pack", metavar="PACK", help="of that pack only"
    )
    _command(action, "get", _action_get, "show an action's parameters").add_argument("ref")
    _command(_group(commands, "trigger", "triggers that actions fired"), "list", _trigger_list,
             "oldest first")
    return parser


def _group(commands, name, text):
    return commands.add_parser(name, help=text).add_subparsers(dest="subcommand", required=True)


def _command(commands, name, function, text):
    command = commands.add_parser(name, help=text)
    command.add_argument("-j", "--json", action="store_true", help="print JSON")
    command.set_defaults(function=function)
    return command


def _state():
    return os.environ.get("ST2LOCAL_STATE") or os.path.join(ROOT, ".st2local")


def _open_state(options):
    """Open the state for a command that runs nothing: its config is neither needed nor checked."""
    return St2Local(options.pack, config=None, state=_state())


def _run(options):
    progress = Silent() if options.quiet else Live()
    with configuration.open_config(
            Pack(options.pack), _state(), options.config,
            lambda text: None if options.quiet else print(text, file=sys.stderr),
    ) as (config, source):
        user = {"user": options.user} if options.user else {}
        with St2Local(options.pack, config=config, state=_state(), progress=progress,
                      source=source, **user) as local:
            action = local.find_action(options.action)
            if action is None:
                raise InvalidInput('Action "%s" cannot be found.' % options.action)
            words = options.parameters + options.rest
            handle = local.start(options.action, arguments.parse(words, action))
            document = _wait(handle)
            document.pop("output", None)
            if options.json:
                output.as_json(document)
            else:
                output.execution(document, _children(local, document))
            sys.stdout.flush()
            _settle(local, options.quiet)
    return 0 if document["status"] == "succeeded" else 1


def _settle(local, quiet):
    """Wait for the runs that the run has started: they end with this process.

    On StackStorm they would continue by themselves.
    """
    running, announced = local.running(), False
    while running:
        if not (quiet or announced):
            print(
                "waiting for the runs it started: %s; Ctrl-C cancels them" %
                ", ".join(
                    "%s %s" % (execution["action"]["ref"], execution["id"]) for execution in running
                ),
                file=sys.stderr,
            )
            announced = True
        time.sleep(INTERRUPTIBLE_SECONDS)
        running = local.running()


def _wait(handle):
    try:
        return _ended(handle)
    except KeyboardInterrupt:
        # The first Ctrl-C cancels as StackStorm does, and running actions end; the second exits.
        print("cancelling; press Ctrl-C again to exit at once", file=sys.stderr)
        handle.cancel()
        return _ended(handle)


def _ended(handle):
    while True:
        try:
            # Python handles a signal only when the main thread wakes up.
            return handle.wait(INTERRUPTIBLE_SECONDS)
        except TimeoutError:
            pass


def _children(local, document):
    return list(reversed(local.executions(parent=document["id"])))


def _execution_list(options):
    local = _open_state(options)
    documents = local.executions(
        top=True, limit=options.last, action=options.action, status=options.status)
    rows, indents = [], []

    def add(document, indent):
        rows.append(document)
        indents.append(indent)
        if options.tree:
            for child in _children(local, document):
                add(child, indent + 1)

    for document in documents:
        add(document, 0)
    if options.json:
        output.as_json(rows)
    else:
        output.executions(rows, indents)


def _execution_get(options):
    local = _open_state(options)
    document = local.execution(options.id)
    if options.key:
        _print_part(document.get("result"), options.key)
    elif options.json:
        output.as_json(document)
    else:
        output.execution(document, _children(local, document))


def _print_part(value, key):
    """Print a part of a result as `st2 execution get --raw -k` does: text unformatted."""
    for name in key.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if isinstance(value, str):
        output.text(value)
    else:
        output.as_json(value)


def _inquiry_list(options):
    inquiries = _open_state(options).executions(action="core.ask", status="pending")
    if options.json:
        output.as_json(inquiries)
    else:
        output.table(["id", "route", "schema"], [
            (document["id"], document["result"]["route"], document["result"]["schema"])
            for document in inquiries
        ])


def _inquiry_respond(options):
    local = _open_state(options)
    schema = (local.execution(options.id).get("result") or {}).get("schema") or {}
    form = _Form(schema.get("properties") or {})
    response = arguments.parse(options.response, form)
    local.respond(options.id, response)
    print("Response accepted for inquiry %s" % options.id)


class _Form:
    """An inquiry's schema with an action's interface, so that answers are cast like parameters."""

    def __init__(self, specs):
        self.specs = specs


def _key_list(options):
    keys = _open_state(options).keys.list(options.prefix, "name", options.last)
    if options.json:
        output.as_json(keys)
    else:
        output.table(["name", "value", "secret", "expire_timestamp"], [
            (key["name"], key["value"], key["secret"], key.get("expire_timestamp"))
            for key in keys
        ])


def _key_get(options):
    key = _open_state(options).keys.document(options.name, options.decrypt)
    if options.json:
        output.as_json(key)
    else:
        print(key["value"])


def _key_set(options):
    key = _open_state(options).keys.set(options.name, options.value, options.ttl, options.encrypt)
    if options.json:
        output.as_json(key)


def _key_delete(options):
    _open_state(options).keys.delete(options.name)


def _action_list(options):
    actions = [action for action in _open_state(options).pack.actions()
               if options.of_pack in (None, action.ref.partition(".")[0])]
    if options.json:
        output.as_json([action.document() for action in actions])
    else:
        output.table(["ref", "description"], [
            (action.ref, " ".join(action.description.split())) for action in actions])


def _action_get(options):
    action = _open_state(options).find_action(options.ref)
    if action is None:
        raise InvalidInput('Action "%s" cannot be found.' % options.ref)
    if options.json:
        output.as_json(action.document())
        return
    print("%s  (%s)\n%s\n" % (action.ref, action.runner, action.description))
    output.table(["parameter", "type", "required", "default", "description"], [
        (name, spec.get("type", ""), "yes" if spec.get("required") else "",
         spec.get("default", ""), " ".join(str(spec.get("description", "")).split()))
        for name, spec in action.parameters.items()
    ])


def _trigger_list(options):
    fired = _open_state(options).triggers()
    if options.json:
        output.as_json([firing._asdict() for firing in fired])
    else:
        output.table(["timestamp", "trigger", "payload"], [
            (firing.timestamp, firing.trigger, firing.payload) for firing in fired])
