"""The process of one python-script action: loads the file, runs the class, prints the result.

Started by python_runner.py, which reads the result from stdout between two marks. Reads one JSON
object from stdin: file, pack, user, config, parameters, log_level. It imports the standard library
only, and as little of it as possible: every action starts a process and pays for its imports.
"""
import sys

# This folder's modules are st2local's own; an action must not be able to import them.
del sys.path[0]

import importlib.util  # noqa: E402
import inspect  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import traceback  # noqa: E402

MARK = "%%%%%~=~=~=************=~=~=~%%%%"
INVALID_STATUS_EXIT_CODE = 220
MAX_DEPTH = 254


class ActionService:
    """`self.action_service` of an action, with StackStorm's names and arguments."""

    def __init__(self, action_wrapper):
        self._action_wrapper = action_wrapper
        self._datastore_service = None

    @property
    def datastore_service(self):
        if self._datastore_service is None:
            from st2common.runners.utils import get_logger_for_python_runner_action
            from st2common.services.datastore import ActionDatastoreService

            wrapper = self._action_wrapper
            self._datastore_service = ActionDatastoreService(
                logger=get_logger_for_python_runner_action(
                    action_name=wrapper._class_name, log_level=wrapper._log_level),
                pack_name=wrapper._pack,
                class_name=wrapper._class_name,
                auth_token=os.environ.get("ST2_ACTION_AUTH_TOKEN"),
            )
        return self._datastore_service

    def get_user_info(self):
        return self.datastore_service.get_user_info()

    def list_values(self, local=True, prefix=None, limit=None, offset=None):
        return self.datastore_service.list_values(
            local=local, prefix=prefix, limit=limit, offset=offset)

    def get_value(self, name, local=True, scope="system", decrypt=False):
        return self.datastore_service.get_value(
            name=name, local=local, scope=scope, decrypt=decrypt)

    def set_value(self, name, value, ttl=None, local=True, scope="system", encrypt=False):
        return self.datastore_service.set_value(
            name=name, value=value, ttl=ttl, local=local, scope=scope, encrypt=encrypt)

    def delete_value(self, name, local=True, scope="system"):
        return self.datastore_service.delete_value(name=name, local=local, scope=scope)


class Wrapper:
    """One action's run. The attributes are those that StackStorm's base class reads."""

    def __init__(self, request):
        self._pack = request["pack"]
        self._user = request["user"]
        self._log_level = request["log_level"]
        self._class_name = None
        self._request = request

    def run(self):
        """The action's return value."""
        path = self._request["file"]
        try:
            klass = self._load(path)
        except Exception as error:
            raise type(error)(
                'Failed to load action class from file "%s" (action file most likely doesn\'t'
                " exist or contains invalid syntax): %s\n\n%s"
                % (path, error, traceback.format_exc())
            ) from error
        self._class_name = klass.__name__
        service = ActionService(self)
        try:
            action = klass(config=self._request["config"], action_service=service)
        except TypeError as error:
            if "unexpected keyword argument 'action_service'" not in str(error):
                raise
            action = klass(config=self._request["config"])
            action.action_service = service
        return action.run(**self._request["parameters"])

    def _load(self, path):
        # At the end, so that actions/lib, the libraries and the standard library come first.
        folder = os.path.dirname(os.path.realpath(path))
        if folder not in sys.path:
            sys.path.append(folder)
        name = os.path.splitext(os.path.basename(path))[0]
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        # Not registered in sys.modules, as in StackStorm: pickling and dataclasses with string
        # annotations fail here too.
        spec.loader.exec_module(module)
        classes = inspect.getmembers(
            module, lambda member: inspect.isclass(member) and member.__module__ == name)
        for _, klass in classes:
            run = inspect.getattr_static(klass, "run", None)
            if run is not None and not getattr(run, "__isabstractmethod__", False):
                return klass
        raise Exception('Found no classes in plugin file "%s" matching requirements.' % path)


def to_json(value):
    """Return JSON as StackStorm's orjson writes it.

    :raises TypeError: if the value cannot be serialized.
    """
    return json.dumps(_plain(value, 0), ensure_ascii=False, separators=(",", ":"))


def _plain(value, depth):
    if depth > MAX_DEPTH:
        raise TypeError("Recursion limit reached")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise TypeError("str is not valid UTF-8: surrogates not allowed") from None
        return str.__str__(value)
    if isinstance(value, int):
        if not -2 ** 63 <= value < 2 ** 64:
            raise TypeError("Integer exceeds 64-bit range")
        return int(value)
    if isinstance(value, float):
        # Not a number and the infinities become null.
        return value if value - value == 0 else None
    if isinstance(value, dict):
        plain = {}
        for key, member in value.items():
            if not isinstance(key, str):
                raise TypeError("Dict key must be str")
            plain[_plain(key, depth + 1)] = _plain(member, depth + 1)
        return plain
    if isinstance(value, list) or type(value) is tuple:
        return [_plain(member, depth + 1) for member in value]
    return _plain(_native(value), depth + 1)


def _native(value):
    """Convert a value of the few further types that orjson supports."""
    kind = type(value)
    if hasattr(kind, "__dataclass_fields__"):
        return {name: getattr(value, name) for name in kind.__dataclass_fields__
                if not name.startswith("_")}
    import datetime
    import enum
    import uuid

    if isinstance(value, enum.Enum):
        return value.value
    if kind is uuid.UUID:
        return str(value)
    if kind in (datetime.datetime, datetime.date, datetime.time):
        return value.isoformat()
    raise TypeError("Type is not JSON serializable: %s" % kind.__name__)


def main():
    request = json.loads(sys.stdin.buffer.read().decode("utf-8", "surrogatepass"))
    returned = Wrapper(request).run()
    status, result = returned if isinstance(returned, tuple) and len(returned) == 2 else (
        None, returned)
    output = {"result": result, "status": None}
    if status is not None and not isinstance(status, bool):
        sys.stderr.write(
            "Status returned from the action run() method must either be True or False, got: %s\n"
            "Return a list instead of a tuple, or (True, value) or (False, value).\n" % (status,))
        sys.exit(INVALID_STATUS_EXIT_CODE)
    if status is not None:
        output["status"] = status
        try:
            to_json(result)
        except TypeError:
            output["result"] = str(result)
    try:
        text = to_json(output)
    except Exception:
        # Not JSON: its Python text is passed on.
        text = str(output)
    # Another thread's or a child's buffered text must not come between the marks.
    sys.stdout.flush()
    sys.stdout.buffer.write((MARK + text + "\n" + MARK).encode("utf-8"))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
