"""What of an alert's labels reaches an action: nothing, or text as the step allows it."""
import pytest

from synthralos.core.errors import InvalidInput
from synthralos.infrastructure import runbook_actions, runbook_parameters
from synthralos.infrastructure.runbooks import parse_runbooks
from synthralos.infrastructure.topology import Topology, read_nodes

NODES = [
    {"name": "web-1"}, {"name": "db-1:9100", "depends_on": ["san-1"]}, {"name": "10.0.0.7"},
    {"name": "[2001:db8::1]"}, {"name": "fe80::1"},
]
TOPOLOGY = Topology(read_nodes("t", NODES))
SHELL = ["; rm -rf /", "$(reboot)", "`reboot`", "a && reboot", "a|reboot", "a > /etc/passwd",
         "-rf", "--", "a b", "a\nreboot", "a\x00b", "*", "~", "a'b", 'a"b', "a\\b", "$HOME", "a;b",
         "a#b", "!!", "a&", "(a)", "{a,b}", "a=b", "a,b", "%PATH%", "^a"]
TEMPLATES = ["{{ st2kv.system.x }}", "a{{b", "{% raw %}", "{# a", "<% ctx() %>", "<%= a %>", "<%"]
HOSTS = [
    "web-1,evil.example.com", "evil.example.com", "web-1@evil", "user@web-1", "root@web-1:22",
    "http://evil", "http://web-1", "https://web-1/", "web-1/../evil", "web-1 evil", "web-1\nevil",
    " web-1", "web-1 ", "WEB-1", "web-1.", "web-1.evil.example.com", "web-1:22:22", "web-1:x",
    "web-1:", "web-1:-1", "-oProxyCommand=reboot", "wеb-1", "web‑1", "web-1\u200b", "web-1\u202e",
    "ⓦeb-1", "web-1%00", "web-1;reboot", "127.0.0.1", "0x0a000007", "10.0.0.7.", "010.0.0.7",
    "[2001:db8::2]", "2001:db8::1", "[2001:db8::1", "[2001:db8::1]x", "fe80::1%eth0", "fe80::2",
    "db-1", "db-1:22",
]


def step_of(value, name="mount", action="acme.mount"):
    steps = [{"name": "s", "action": action, "parameters": {name: value}}]
    raw = {"name": "r", "match": {"alertname": "A"}, "steps": steps}
    [runbook] = parse_runbooks([raw], [action], [])
    return runbook.steps[0]


def resolved(text, name="mount", **more):
    step = step_of(dict({"label": "l"}, **more), name)
    return runbook_parameters.resolve_parameters(step, {"l": text}, TOPOLOGY)[name]


def assert_refused(text, name="mount", **more):
    with pytest.raises(InvalidInput) as error:
        resolved(text, name, **more)
    assert error.value.field == "s.parameters." + name and error.value.hint
    # Results contain the reason.
    assert len(text) < 5 or text not in error.value.reason


@pytest.mark.parametrize("text", SHELL)
def test_without_a_pattern_a_label_is_a_name(text):
    assert_refused(text)


@pytest.mark.parametrize("text", TEMPLATES)
@pytest.mark.parametrize("pattern", [None, ".+", r"(?s).+"])
def test_no_label_begins_a_template(text, pattern):
    assert_refused(text, pattern=pattern)
    assert_refused("x " + text, pattern=pattern)


def test_nor_does_one_that_the_step_lists():
    assert_refused("{{ x }}", pattern=".+", one_of=["{{ x }}"])


@pytest.mark.parametrize("text", ["; rm -rf /", "$(reboot)", "-rf", "a'b\"c\\d", "ä ß \U0001f600"])
def test_what_the_pattern_accepts_arrives_as_the_text_that_it_is(text):
    assert resolved(text, pattern=".+") == text


@pytest.mark.parametrize("text", ["a\nb", "a\r", "a\x00", "a\u202eb", "a\u2028b", "a\x1b[2J"])
def test_control_characters_are_refused_whatever_the_pattern_is(text):
    assert_refused(text, pattern=r"(?s).+")


@pytest.mark.parametrize("text, is_accepted", [
    ("/var/log", True), ("/var/log/../../etc", False), ("x/var/log", False), ("/var/log ", False),
    ("/var/log\n", False), ("/" + "a" * 600, False),
])
def test_the_pattern_is_that_of_the_whole_label(text, is_accepted):
    pattern = r"/[a-z]{1,20}/[a-z]+"
    if is_accepted:
        assert resolved(text, pattern=pattern) == text
    else:
        assert_refused(text, pattern=pattern)


def test_a_long_text_is_refused_whatever_the_pattern_is():
    assert resolved("a" * 500, pattern="a+") == "a" * 500
    assert_refused("a" * 501, pattern="a+")
    assert_refused("a" * 129)


@pytest.mark.parametrize("text", [None, "", 7, True, ["a"], {"a": "b"}])
def test_what_is_no_text_is_missing(text):
    with pytest.raises(InvalidInput, match="has no label l"):
        resolved(text)


@pytest.mark.parametrize("text", HOSTS)
@pytest.mark.parametrize("more", [{}, {"pattern": r"(?s).+"}], ids=["name", "pattern"])
def test_another_host_is_refused(text, more):
    assert_refused(text, "hosts", **more)
    assert_refused(text, "where", host=True, **more)


@pytest.mark.parametrize("text, host", [
    ("web-1", "web-1"), ("web-1:9100", "web-1"), ("db-1:9100", "db-1:9100"), ("san-1", "san-1"),
    ("10.0.0.7:9100", "10.0.0.7"),
])
def test_a_host_of_the_topology_is_passed_on_by_its_name_there(text, host):
    assert resolved(text, "hosts") == host
    assert resolved(text, "where", host=True) == host


def test_an_address_with_brackets_needs_a_pattern():
    assert_refused("[2001:db8::1]:9100", "hosts")
    pattern = r"[0-9a-f:\[\]]+"
    assert resolved("[2001:db8::1]:9100", "hosts", pattern=pattern) == "[2001:db8::1]"
    assert resolved("[2001:db8::1]", "hosts", pattern=pattern) == "[2001:db8::1]"


@pytest.mark.parametrize("text", ["web-1", "db-1", "evil", "web-2:22", "web-2,web-3"])
def test_where_the_step_lists_hosts_no_other_is_accepted(text):
    assert_refused(text, "hosts", one_of=["web-2", "web-3"])


def test_a_host_that_the_step_lists_need_not_be_in_the_topology():
    assert resolved("web-2", "hosts", one_of=["web-2"]) == "web-2"
    assert resolved("web-1:9100", "hosts", one_of=["web-1"]) == "web-1"


@pytest.mark.parametrize("text", [
    "x/../../../../nodes/worker-1", "web-1/log", "a/b", "a/..", "http://evil", "evil.example.com/",
    "user@evil:/etc/passwd",
])
def test_a_name_is_one_part_of_a_path(text):
    """kubernetes.deleteCoreV1NamespacedPod writes its parameter `name` into a URL."""
    assert_refused(text, "name")
    assert resolved(text, "name", pattern=".+") == text
    assert resolved(text, "name", one_of=[text]) == text


@pytest.mark.parametrize("more", [{}, {"pattern": ".+"}], ids=["name", "pattern"])
def test_what_an_action_would_decode_is_refused(more):
    """Actions of this pack decode base64:, whose content no pattern has seen."""
    assert_refused("base64:e3sgeCB9fQ==", **more)


def test_what_the_step_lists_needs_no_pattern():
    assert resolved("/var", one_of=["/var", "/"]) == "/var"
    assert_refused("/var/log", one_of=["/var", "/"])
    assert_refused("{{ x }}", one_of=["{{ x }}"])


def test_one_of_holds_for_other_parameters_too():
    assert resolved("/var", pattern="/[a-z]+", one_of=["/var", "/data"]) == "/var"
    assert_refused("/etc", pattern="/[a-z]+", one_of=["/var", "/data"])


@pytest.mark.parametrize("name", [
    "host", "HOST", "hosts", "hostName", "target_host", "node", "nodeIP", "node-ip", "server",
    "instance_id", "url", "baseURL", "base_url", "API_URL", "ipv4", "ip_address", "bastion_host",
    "machine", "webhook", "destination", "baseURLs", "vm", "vm_id", "tgt", "minion", "source",
    "adminurl", "jump_host", "jumphost", "remote", "dsn",
])
def test_a_parameter_that_is_named_like_a_host_takes_only_known_ones(name):
    assert_refused("evil", name)
    assert resolved("web-1", name) == "web-1"


@pytest.mark.parametrize("name", [
    "ghost", "mountpoint", "unit", "service", "nodular", "ship", "resource", "vmware",
])
def test_others_take_any_name(name):
    assert resolved("evil", name) == "evil"


def test_one_bad_label_of_a_later_step_resolves_none():
    steps = [
        {"name": "first", "action": "a.b", "parameters": {"unit": {"label": "unit"}}},
        {"name": "second", "action": "a.b", "parameters": {"hosts": {"label": "instance"}}},
    ]
    raw = {"name": "r", "match": {"alertname": "A"}, "steps": steps}
    [runbook] = parse_runbooks([raw], ["a.b"], [])
    labels = {"unit": "cron", "instance": "web-1"}
    assert runbook_parameters.resolve_all(runbook, labels, TOPOLOGY) == [
        {"unit": "cron"}, {"hosts": "web-1"}]
    with pytest.raises(InvalidInput) as error:
        runbook_parameters.resolve_all(runbook, dict(labels, instance="evil"), TOPOLOGY)
    assert error.value.field == "second.parameters.hosts"


RUNNER = {"timeout": {"type": "integer", "default": 60}, "cmd": {"type": "string"},
          "hosts": {"type": "string", "required": True}, "dir": {"immutable": True}}


def problem(value, name="mount", runner="python-script", declared=None, runner_parameters=None):
    action = {"runner_type": runner, "enabled": True, "parameters": declared or {}}
    return runbook_actions.action_problem(step_of(value, name), action, runner_parameters)


class TestActionProblem:
    def test_an_action_that_does_not_exist(self):
        field, reason, hint = runbook_actions.action_problem(step_of("/"), None)
        assert (field, reason) == ("action", "does not exist") and "st2 pack install" in hint

    def test_one_that_is_disabled(self):
        field, reason, hint = runbook_actions.action_problem(step_of("/"), {"enabled": False})
        assert (field, reason) == ("action", "is disabled") and hint == (
            "st2 action enable acme.mount")

    @pytest.mark.parametrize("runner", [
        "local-shell-cmd", "local-shell-script", "remote-shell-cmd", "remote-shell-script",
        "winrm-cmd", "winrm-ps-cmd", "winrm-ps-script", "run-remote", "acme-ansible", None,
    ])
    def test_a_pattern_before_a_shell_or_an_unknown_runner(self, runner):
        field, reason, hint = problem({"label": "l", "pattern": ".+"}, runner=runner)
        assert field == "parameters.mount" and "shell" in reason and "pattern out" in hint
        assert problem({"label": "l"}, runner=runner) is None
        assert problem("; rm -rf /tmp/x", runner=runner) is None

    def test_what_the_step_lists_may_reach_a_shell(self):
        value = {"label": "l", "pattern": "/.+", "one_of": ["/var"]}
        assert problem(value, runner="local-shell-script") is None

    @pytest.mark.parametrize("runner", ["python-script", "http-request", "orquesta"])
    def test_a_pattern_elsewhere(self, runner):
        assert problem({"label": "l", "pattern": ".+"}, runner=runner) is None

    def test_an_immutable_parameter(self):
        declared = {"mount": {"type": "string", "immutable": True}}
        assert problem("/", declared=declared)[:2] == ("parameters.mount", "is immutable")
        assert problem("/", "dir", runner_parameters=RUNNER)[:2] == (
            "parameters.dir", "is immutable")

    def test_a_parameter_that_is_missing(self):
        declared = {"mount": {}, "unit": {"required": True}}
        assert problem("/", declared=declared)[:2] == (
            "parameters.unit", "is required by the action")
        declared["unit"]["default"] = "cron"
        assert problem("/", declared=declared) is None
        assert problem("/", declared={"mount": {}}, runner_parameters=RUNNER)[:2] == (
            "parameters.hosts", "is required by the action")

    def test_a_parameter_that_the_action_does_not_have(self):
        declared = {"mountpoint": {"type": "string"}, "hosts": {"default": "web-1"}}
        field, reason, hint = problem("/", declared=declared, runner_parameters=RUNNER)
        assert (field, reason) == ("parameters.mount", "is not a parameter of the action")
        assert hint == "It has: cmd, dir, hosts, mountpoint, timeout"
        assert problem(5, "timeout", declared=declared, runner_parameters=RUNNER) is None
        assert problem("/", declared=declared) is None

    @pytest.mark.parametrize("types", ["integer", "boolean", "array", ["integer", "null"]])
    def test_a_label_where_no_text_is_accepted(self, types):
        declared = {"mount": {"type": types}}
        field, reason, _ = problem({"label": "l"}, declared=declared)
        assert field == "parameters.mount" and "label l is text" in reason

    @pytest.mark.parametrize("types, value, is_accepted", [
        ("string", "x", True), ("string", 5, False), ("string", True, False), ("string", {}, False),
        ("integer", 5, True), ("integer", "5", True), ("integer", "soon", False),
        ("integer", True, False), ("integer", 2.5, False), ("number", 2.5, True),
        ("number", "1e3", True), ("number", 3, True), ("number", [], False),
        ("boolean", True, True), ("boolean", "false", True), ("boolean", 1, False),
        ("boolean", "yes", False), ("object", {"a": 1}, True), ("object", '{"a": 1}', True),
        ("object", [1], False), ("object", "a", False), ("array", [1], True),
        ("array", "[1]", True), ("array", "a,b", False), ("array", {"a": 1}, False),
        (["string", "integer"], 5, True), (["string", "integer"], 2.5, False),
        ("integer", None, True), ("integer", "{{ st2kv.system.x }}", True), (None, [1], True),
        ("integer", "5\n; x", False), ("strange", 5, True),
    ])
    def test_a_value_of_the_wrong_type(self, types, value, is_accepted):
        result = problem(value, declared={"mount": {"type": types}})
        if is_accepted:
            assert result is None
        else:
            field, reason, hint = result
            assert field == "parameters.mount" and "type" in reason and hint

    def test_a_value_that_the_action_does_not_accept(self):
        declared = {"mount": {"type": "string", "enum": ["sudo", "su"]}}
        assert problem("su", declared=declared) is None
        field, reason, hint = problem("doas", declared=declared)
        assert (field, hint) == ("parameters.mount", "Use one of sudo, su")

    @pytest.mark.parametrize("types", ["string", ["string", "null"], None])
    def test_a_label_where_text_is_accepted(self, types):
        assert problem({"label": "l"}, declared={"mount": {"type": types}}) is None

    @pytest.mark.parametrize("declared", [None, [], {"mount": None}, {"mount": []}])
    def test_odd_metadata_is_no_problem(self, declared):
        assert problem({"label": "l"}, declared=declared) is None


class TestTemplatesOfAnAction:
    """StackStorm renders the defaults that an action declares, with its parameters."""

    def problem(self, value, receiver, template, runner="python-script", **more):
        declared = dict({"text": {"type": "string"}}, **{receiver: {"default": template}})
        for name, default in more.items():
            declared[name] = {"default": default}
        return problem(value, "text", runner, declared, {})

    @pytest.mark.parametrize("template", [
        "restart {{ text }}", "{{text}}", "{% if text %}x{% endif %}", "{{ 'a' ~ text | lower }}",
        "{{ st2kv.system[text] }}",
    ])
    def test_a_pattern_does_not_reach_a_command_line(self, template):
        value = {"label": "l", "pattern": ".+"}
        field, reason, hint = self.problem(value, "cmd", template)
        assert field == "parameters.text" and "becomes a part of cmd" in reason
        assert "one_of" in hint
        assert self.problem({"label": "l"}, "cmd", template) is None
        assert self.problem(dict(value, one_of=["a b"]), "cmd", template) is None

    @pytest.mark.parametrize("value", [{"label": "l"}, {"label": "l", "pattern": "[a-z]+"}])
    @pytest.mark.parametrize("receiver", ["hosts", "url", "endpoint"])
    def test_an_address_takes_hosts_only(self, value, receiver):
        template = "https://{{ text }}.example.com"
        field, reason, hint = self.problem(value, receiver, template)
        assert field == "parameters.text" and receiver in reason and "host: true" in hint
        for more in ({"host": True}, {"one_of": ["eu"]}):
            assert self.problem(dict(value, **more), receiver, template) is None

    def test_through_another_parameter(self):
        value = {"label": "l", "pattern": ".+"}
        assert self.problem(value, "middle", "a {{ text }}", cmd="b {{ middle }}")
        assert self.problem(value, "middle", "a {{ text }}", cmd="b {{ other }}") is None

    def test_a_template_of_the_step_with_a_default_of_the_action(self):
        parameters = {"text": {"label": "l"}, "note": "a {{ middle }}"}
        steps = [{"name": "s", "action": "a.b", "parameters": parameters}]
        raw = {"name": "r", "match": {"alertname": "A"}, "steps": steps}
        [runbook] = parse_runbooks([raw], ["a.b"], [])
        action = {"runner_type": "python-script", "parameters": {
            "text": {}, "note": {}, "middle": {"default": "{{ text }}"}}}
        field, reason, _ = runbook_actions.action_problem(runbook.steps[0], action, {})
        assert (field, reason) == ("parameters.note", "is a template with a label")

    @pytest.mark.parametrize("template", [
        "{{ config_context.text }}", "{{ other }}", "text", "{ text }", None, 7, ["text"],
    ])
    def test_other_templates_are_no_problem(self, template):
        assert self.problem({"label": "l", "pattern": ".+"}, "cmd", template) is None

    def test_what_the_step_sets_is_not_rendered_from_the_default(self):
        step = {"text": {"label": "l", "pattern": ".+"}, "cmd": "true"}
        steps = [{"name": "s", "action": "a.b", "parameters": step}]
        raw = {"name": "r", "match": {"alertname": "A"}, "steps": steps}
        [runbook] = parse_runbooks([raw], ["a.b"], [])
        action = {"runner_type": "python-script", "parameters": {
            "text": {}, "cmd": {"default": "restart {{ text }}"}}}
        assert runbook_actions.action_problem(runbook.steps[0], action, {}) is None
