"""The sandbox: one server, its scripts and its record."""
import threading

from sandbox import config, prometheus, scenario, targets
from sandbox.calls import Record
from sandbox.scripts import Scripts
from sandbox.server import Server
from sandbox.steps import Step

# Seconds between the listener's checks for `close`.
POLL_SECONDS = 0.01


class Sandbox:
    """A fake outside world on 127.0.0.1, from `start` to `close`, or as a context manager.

    :param port: 0 for any free port. `start` raises OSError if it is in use.
    :param scenario: scripts as plain data (see `scenario`), or the path of a file with them.
        `start` raises ValueError if it is invalid.
    :param watch: called with each Call after it was answered, on the thread that answered it.
    """

    def __init__(self, port=0, scenario=None, watch=None):
        self.record = Record()
        self.scripts = Scripts()
        self.errors = {}
        self.nodes = prometheus.Nodes()
        self.series_by_query = prometheus.SeriesByQuery()
        self.watch = watch or (lambda call: None)
        self._port = port
        self._scenario = scenario
        self._server = None

    def start(self):
        if self._server is not None:
            raise RuntimeError("the sandbox is already running")
        if self._scenario is not None:
            plain = isinstance(self._scenario, dict)
            scenario.play(self, self._scenario if plain else scenario.load(self._scenario))
        self._server = Server(self._port, self)
        serve = threading.Thread(
            target=self._server.serve_forever, args=(POLL_SECONDS,), name="sandbox", daemon=True
        )
        serve.start()
        return self

    def close(self):
        """End the server and every open connection; the record stays. May be called twice."""
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
        """Script the next calls to `target`: one step for each call, then good answers.

        :param target: see `targets`; the script replaces its current one.
        :param steps: a list of steps, or of functions from a Call to a step; or a single one.
        :param forever: repeat the last one.
        """
        alone = isinstance(steps, Step) or callable(steps)
        self.scripts.set(target, [steps] if alone else steps, forever)

    def kill(self, target):
        """Resets every call to `target`, whatever its script, until it is revived."""
        self.scripts.kill(target)

    def revive(self, target):
        """Undo `kill`.

        :raises ValueError: if exactly this target was not killed.
        """
        self.scripts.revive(target)

    def set_errors(self, errors, target="platform"):
        """Set what GET .../observability/errors lists at the platform `target`."""
        targets.checked(target)
        if not isinstance(errors, list):
            raise ValueError(f"errors must be a list (got {errors!r})")
        self.errors[target] = list(errors)

    def set_series(self, query, series):
        """Set what Prometheus returns for `query`, at any time, until it is set again.

        :param series: a list of the labels of each series, or a function that returns it.
        """
        self.series_by_query.set(query, series)

    @property
    def calls(self):
        """All calls so far, oldest first; a new list of the Calls themselves."""
        return self.record.all()

    def calls_to(self, target):
        """The calls to `target`; see `targets` for what it covers."""
        return self.record.to(targets.checked(target))

    def reset_calls(self):
        """Clear the record of calls."""
        self.record.clear()

    def reset(self):
        """Clear scripts, killed targets, errors, series and calls."""
        self.scripts.clear()
        self.errors.clear()
        self.series_by_query.clear()
        self.record.clear()
