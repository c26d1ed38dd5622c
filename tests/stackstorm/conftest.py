"""The pack on a live StackStorm: ST2_API_URL names its API, such as http://127.0.0.1:9101/v1.

The pack must be installed there. Its configuration is replaced by one for a sandbox of these tests,
and put back afterwards; so never point ST2_API_URL at a StackStorm that people use. StackStorm's
action runners must reach the sandbox, which listens on this machine's loopback address.
"""
import os
import shlex
import subprocess

import pytest
import requests
from fixtures.waiting import ENDED, LIVE_PATIENCE_SECONDS, PATIENCE_SECONDS, until

from sandbox import Sandbox


class StackStorm:
    def __init__(self, url, token=None, api_key=None):
        self.url = url.rstrip("/")
        self.session = requests.Session()
        self.session.trust_env = False
        if token:
            self.session.headers["X-Auth-Token"] = token
        if api_key:
            self.session.headers["St2-Api-Key"] = api_key

    def call(self, method, path, **options):
        answer = self.session.request(method, self.url + path, timeout=PATIENCE_SECONDS, **options)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def start(self, action, **parameters):
        body = {"action": "synthralos." + action, "parameters": parameters}
        return self.call("POST", "/executions", json=body)["id"]

    def wait(self, execution_id, *statuses):
        """The execution, once it has one of these statuses; without any, once it has ended."""
        def reached():
            execution = self.call("GET", "/executions/" + execution_id)
            return execution if execution["status"] in (statuses or ENDED) else None

        condition = "%s is %s" % (execution_id, " or ".join(statuses or ENDED))
        return until(reached, condition, LIVE_PATIENCE_SECONDS)

    def run(self, action, **parameters):
        """(execution, its output)."""
        execution = self.wait(self.start(action, **parameters))
        return execution, execution["result"].get("output")

    def children(self, execution):
        rows = self.call("GET", "/executions", params={"parent": execution["id"], "limit": 100})
        return sorted(rows, key=lambda row: row["start_timestamp"])


@pytest.fixture(scope="session")
def st2():
    if not os.environ.get("ST2_API_URL"):
        pytest.skip("ST2_API_URL is not set: there is no live StackStorm to run on")
    env = os.environ
    return StackStorm(env["ST2_API_URL"], env.get("ST2_AUTH_TOKEN"), env.get("ST2_API_KEY"))


@pytest.fixture
def restart(st2):
    """restart(service) kills a service of StackStorm and starts it again.

    ST2_RESTART names the command that does so; it gets the name of the service (st2workflowengine,
    st2actionrunner, st2scheduler, st2api, rabbitmq). Without it, the test is skipped.
    """
    command = os.environ.get("ST2_RESTART")
    if not command:
        pytest.skip("ST2_RESTART is not set: nothing here can restart StackStorm's services")

    def restarted(service):
        subprocess.run(shlex.split(command) + [service], check=True, timeout=LIVE_PATIENCE_SECONDS)

    return restarted


@pytest.fixture(scope="session")
def _configured(st2):
    with Sandbox() as box:
        before = st2.call("GET", "/configs/synthralos?show_secrets=true").get("values") or {}
        st2.call("PUT", "/configs/synthralos", json=box.pack_config())
        try:
            yield box
        finally:
            st2.call("PUT", "/configs/synthralos", json=before)


@pytest.fixture
def box(_configured, st2):
    """The sandbox that the pack is configured for, with nothing scripted and no target cooling."""
    _configured.reset()
    for kind in ("outcome", "claim", "host_failure"):
        prefix = "synthralos.%s." % kind
        for key in st2.call("GET", "/keys", params={"prefix": prefix, "limit": 100}):
            st2.call("DELETE", "/keys/" + requests.utils.quote(key["name"], safe=""))
    return _configured
