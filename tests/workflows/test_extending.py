"""The recipe for an agent platform in docs/extending.md, followed: its agent is joined."""
import http.server
import json
import re
import textwrap
import threading

import pytest
from fixtures import PACK
from fixtures.waiting import PATIENCE_SECONDS

MAX_LINES = 80
LIBRARY = "actions/lib/synthralos/"
FAILED = {"agent_id": "invoices", "failure_type": "error", "original_query": "Sum up 4711"}


def blocks():
    """The four blocks of code of the recipe, without their indentation."""
    text = (PACK / "docs" / "extending.md").read_text(encoding="utf-8")
    section = re.search(r"^## An agent platform\n(.*?)^## ", text, re.M | re.S).group(1)
    code = re.findall(r"^   ```(?:python|yaml)\n(.*?)^   ```", section, re.M | re.S)
    return [textwrap.dedent(block) for block in code]


def replace(path, pattern, replacement):
    text, count = re.subn(pattern, replacement, path.read_text(encoding="utf-8"), flags=re.S)
    assert count == 1, "%s has %d places for %r" % (path, count, replacement)
    path.write_text(text, encoding="utf-8")


def follow_recipe(pack):
    module, class_entry, api_entry, enum = blocks()
    (pack / LIBRARY / "calls" / "agent_platforms" / "jobs.py").write_text(module, encoding="utf-8")
    add = r"\g<1>    %s}\n"
    replace(
        pack / LIBRARY / "calls" / "agent_platforms" / "__init__.py",
        r"(PLATFORM_CLASSES = \{\n.*?)\}\n", add % class_entry,
    )
    replace(
        pack / LIBRARY / "config" / "platforms.py",
        r"(ENTRIES_OF_API = \{\n.*?)\}\n", add % api_entry,
    )
    replace(
        pack / "config.schema.yaml",
        r"enum: \[synthralos, langgraph, a2a, openai_responses\]", enum.strip(),
    )


class JobServer(http.server.ThreadingHTTPServer):
    """The platform of the recipe.

    :ivar jobs: {id: its document}.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.jobs, self.starts = {}, []

    def finish(self, **fields):
        for job in self.jobs.values():
            job.update(fields)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"null")
        job_id = self.path.rpartition("/")[2]
        jobs = self.server.jobs
        if self.command == "PUT" and job_id not in jobs:
            self.server.starts.append(body)
            jobs[job_id] = {"state": "working", "note": "reading"}
        if self.command == "DELETE" and job_id in jobs:
            jobs[job_id]["state"] = "cancelled"
        data = json.dumps([] if job_id == "jobs" else jobs.get(job_id, {})).encode()
        self.send_response(200 if job_id == "jobs" or job_id in jobs else 404)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_PUT = do_DELETE = do_GET

    def log_message(self, *arguments):
        """Log nothing."""


@pytest.fixture
def server(world):
    follow_recipe(world.copy_pack())
    with JobServer() as new_server:
        threading.Thread(target=new_server.serve_forever, args=(0.01,), daemon=True).start()
        world.config["platforms"] = [{
            "name": "desk", "api": "jobs", "hold_seconds": 1,
            "base_url": "http://127.0.0.1:%d" % new_server.server_address[1],
        }]
        yield new_server
        new_server.shutdown()


def recover(world, **parameters):
    handle = world.local.start("synthralos.agent_recovery", dict(FAILED, **parameters))
    execution = handle.wait(PATIENCE_SECONDS)
    return execution, execution["result"]["output"]


def test_the_recipe_is_short():
    assert sum(len(block.splitlines()) for block in blocks()) < MAX_LINES


def test_an_agent_that_outlives_its_round_is_joined(world, server):
    world.delay = lambda seconds: server.finish(state="done", answer="12.50")
    execution, output = recover(world)
    assert execution["status"] == "succeeded", execution["result"]
    assert output["recovery_result"]["output"] == "12.50" and output["attempts"] == 1
    (start,) = server.starts
    assert start["agent"] == "invoices" and start["query"].startswith("Sum up 4711")
    assert world.tasks(execution).count("execute_recovery") == 2


def test_what_the_agent_reports_is_the_cause(world, server):
    world.delay = lambda seconds: server.finish(state="failed", error="rate limit exceeded")
    execution, output = recover(world, max_retries=0)
    assert execution["status"] == "failed" and output["error"]["cause"] == "rate_limit"


def test_the_platform_is_checked(world, server):
    run = world.local.run("synthralos.pack.check")
    checks = run["result"]["result"]["checks"]
    (check,) = [check for check in checks if "desk" in json.dumps(check)]
    assert "200" in json.dumps(check)
