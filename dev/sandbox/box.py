"""The sandbox: one server, its scripts and its record."""
import threading

from sandbox import config, scenario, targets
from sandbox.calls import Record
from sandbox.scripts import Scripts
from sandbox.server import Server
from sandbox.steps import Step

# How long `close` may wait for the listener to notice, in seconds.
POLL = 0.01


class Sandbox:
    """A fake outside world on 127.0.0.1, from `start` to `close`, or as a context manager.

    :param port: 0 for any that is free. OSError when it is taken.
    :param scenario: scripts as plain data (see `scenario`), or the path of a file with them.
        ValueError when it is none.
    :param watch: called with each Call once it was answered, on the thread that did.
    """

    def __init__(self, port=0, scenario=None, watch=None):
        self.record = Record()
        self.scripts = Scripts()
        self.errors = {}
        self.watch = watch or (lambda call: None)
        self._port = port
        self._scenario = scenario
        self._server = None

    def start(self):
        if self._server is not None:
            raise RuntimeError("the sandbox has been started already")
        if self._scenario is not None:
            plain = isinstance(self._scenario, dict)
            scenario.play(self, self._scenario if plain else scenario.load(self._scenario))
        self._server = Server(self._port, self)
        serve = threading.Thread(
            target=self._server.serve_forever, args=(POLL,), name="sandbox", daemon=True
        )
        serve.start()
        return self

    def close(self):
        """Ends the server and every open connection; the record stays. Twice does no harm."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def __enter__(self):
        return self.start()

    def __exit__(self, *exception):
        self.close()

    @property
    def port(self):
        if self._server is None:
            raise RuntimeError("the sandbox is not running")
        return self._server.server_port

    @property
    def base_url(self):
        return "http://127.0.0.1:%d" % self.port

    def url(self, path):
        """The URL of `path`, such as `/platform-b`."""
        return self.base_url + path

    def pack_config(self):
        """The pack's configuration for this sandbox; a new dict."""
        return config.pack_config(self.base_url)

    def script(self, target, steps, forever=False):
        """From now on, calls to `target` get these steps, one a call, and then good answers.

        :param target: see `targets`; the script replaces the one that it had.
        :param steps: a list of steps, or of functions from a Call to a step; or one alone.
        :param forever: repeat the last one.
        """
        alone = isinstance(steps, Step) or callable(steps)
        self.scripts.set(target, [steps] if alone else steps, forever)

    def kill(self, target):
        """Resets every call to `target`, whatever its script, until it is revived."""
        self.scripts.kill(target)

    def revive(self, target):
        """Undoes `kill`. ValueError when it was not killed in these words."""
        self.scripts.revive(target)

    def set_errors(self, errors, target="platform"):
        """What GET .../observability/errors lists at the platform `target`."""
        targets.checked(target)
        if not isinstance(errors, list):
            raise ValueError(f"errors is a list, not {errors!r}")
        self.errors[target] = list(errors)

    @property
    def calls(self):
        """All calls so far, oldest first; a new list of the Calls themselves."""
        return self.record.all()

    def calls_to(self, target):
        """The calls to `target`; what it covers is said in `targets`."""
        return self.record.to(targets.checked(target))

    def reset_calls(self):
        """Forgets the calls."""
        self.record.clear()

    def reset(self):
        """Forgets scripts, the dead, errors and calls."""
        self.scripts.clear()
        self.errors.clear()
        self.record.clear()
