"""Output of the command line on stdout."""
import json


def as_json(value):
    print(json.dumps(value, indent=4, sort_keys=True))


def text(value):
    _print(value)


def execution(document, children):
    """Print an execution roughly as `st2 execution get` does, with the tasks of a workflow."""
    elapsed = document.get("elapsed_seconds")
    status = document["status"]
    if elapsed is not None:
        status += " (%.1fs elapsed)" % elapsed
    fields = {
        "id": document["id"],
        "action.ref": document["action"]["ref"],
        "context.user": document["context"].get("user"),
        "parameters": document.get("parameters"),
        "status": status,
        "start_timestamp": document["start_timestamp"],
        "end_timestamp": document.get("end_timestamp"),
        "result": document.get("result"),
    }
    for name, value in fields.items():
        _field(name, value)
    if children:
        print()
        table(["id", "status", "task", "action", "start_timestamp"], [
            (child["id"], _with_elapsed(child), _task(child), child["action"]["ref"],
             child["start_timestamp"])
            for child in children
        ])


def executions(documents, indents):
    """:param indents: how deep each is below its run."""
    table(["id", "action.ref", "status", "start_timestamp"], [
        ("  " * indent + document["id"], document["action"]["ref"], _with_elapsed(document),
         document["start_timestamp"])
        for document, indent in zip(documents, indents)
    ])


def table(head, rows):
    rows = [head] + [["" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(len(row[index]) for row in rows) for index in range(len(head))]
    for row in rows:
        _print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def _with_elapsed(document):
    elapsed = document.get("elapsed_seconds")
    return document["status"] + (" (%.1fs)" % elapsed if elapsed is not None else "")


def _task(document):
    orquesta_context = document["context"].get("orquesta") or {}
    item = orquesta_context.get("item_id")
    return orquesta_context.get("task_name", "") + ("[%d]" % item if item is not None else "")


def _field(name, value):
    if isinstance(value, (dict, list)) and value:
        import yaml

        text = yaml.safe_dump(value, default_flow_style=False, allow_unicode=True, width=100)
        _print("%s:" % name)
        _print("  " + text.rstrip("\n").replace("\n", "\n  "))
    else:
        _print("%s: %s" % (name, "None" if value is None else value))


def _print(text):
    # Results may hold what the terminal's encoding cannot show.
    print(text.encode("utf-8", "backslashreplace").decode("utf-8"))
