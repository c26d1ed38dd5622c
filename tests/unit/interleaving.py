"""Processes that share a datastore, in an order that a test chooses: one call to it at a time."""
import threading

from fixtures.waiting import PATIENCE_SECONDS


class Killed(BaseException):
    """Ends a process in the middle of its work, as SIGKILL does: nothing of it runs any more."""


class Interleaving:
    """Runs the processes; before each of its calls, a process waits until the test goes on with it.

    :ivar steps: how many calls there were.
    """

    def __init__(self):
        self.steps, self._processes = 0, []

    def start(self, work):
        """Add a process, `work(process)`; its `gate` waits."""
        self._processes.append(_Process(work))
        return self._processes[-1]

    def run(self, choices, max_steps):
        """Go on with one process after the other, as `choices` says, then with all of them in turn.

        :raises AssertionError: they have not ended after `max_steps`, or one has failed.
        """
        try:
            choices = list(choices)
            while True:
                live = [process for process in self._processes if not process.ended]
                if not live:
                    break
                assert self.steps < max_steps, "they wait for each other"
                index = choices[self.steps] if self.steps < len(choices) else self.steps
                live[index % len(live)].go_on()
                self.steps += 1
        finally:
            for process in self._processes:
                process.kill()
        for process in self._processes:
            if process.error is not None:
                raise process.error


class _Process:
    def __init__(self, work):
        self.ended, self.error, self.is_killed = False, None, False
        self._may_run, self._waits = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()
        assert self._waits.acquire(timeout=PATIENCE_SECONDS)

    def _run(self, work):
        try:
            self.gate()
            work(self)
        except Killed:
            pass
        except BaseException as error:
            self.error = error
        finally:
            self.ended = True
            self._waits.release()

    def gate(self, *_):
        if self.is_killed:
            raise Killed
        self._waits.release()
        assert self._may_run.acquire(timeout=PATIENCE_SECONDS)
        if self.is_killed:
            raise Killed

    def go_on(self):
        self._may_run.release()
        assert self._waits.acquire(timeout=PATIENCE_SECONDS)

    def kill(self):
        """No call of it reaches the datastore any more."""
        if not self.ended:
            self.is_killed = True
            self.go_on()
        self._thread.join(PATIENCE_SECONDS)


class GatedDatastore:
    """A datastore as one process sees it: it waits before each call."""

    def __init__(self, datastore, process):
        self._datastore, self._process = datastore, process

    def __getattr__(self, name):
        call = getattr(self._datastore, name)

        def gated(*arguments, **more):
            self._process.gate()
            return call(*arguments, **more)

        return gated
