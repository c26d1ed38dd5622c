"""Runbooks as the configuration has them: what is refused, and which alert they match."""
import pytest

from synthralos.core.errors import InvalidInput
from synthralos.infrastructure.config import InfrastructureConfig
from synthralos.infrastructure.promql import tells_healthy_apart
from synthralos.infrastructure.runbooks import find_runbook, parse_runbooks, read_runbooks

ALLOWED, CREWS = ("core.remote", "acme.mount"), ("on-call",)


def entry(step=None, **more):
    step = dict({"name": "clean", "action": "core.remote"}, **(step or {}))
    return dict({"name": "disk_full", "match": {"alertname": "DiskFull"}, "steps": [step]}, **more)


def without_action(**more):
    return {"steps": [dict({"name": "ask"}, **more)]}


def parsed(*entries):
    return parse_runbooks(list(entries), ALLOWED, CREWS)


def parameter(**value):
    return {"parameters": {"mount": value}}


@pytest.mark.parametrize("raw, field, way_out", [
    (7, "[0]", "docs/runbooks.md"),
    (entry(name=None), "[0].name", "such as disk_full"),
    (entry(name="a b"), "[0].name", "1 to 63"),
    (entry(name="a/b"), "[0].name", "1 to 63"),
    (entry(name="a" * 64), "[0].name", "1 to 63"),
    (entry(nmae="x"), "[0].nmae", "match"),
    (entry(mode="auto"), "[0].mode", "observe, approve, act"),
    (entry(match=None), "[0].match", "{alertname:"),
    (entry(match={}), "[0].match", "{alertname:"),
    (entry(match=["DiskFull"]), "[0].match", "docs/runbooks.md"),
    (entry(match={"severity": []}), "[0].match.severity", "docs/runbooks.md"),
    (entry(match={"severity": ""}), "[0].match.severity", "docs/runbooks.md"),
    (entry(match={"severity": [True]}), "[0].match.severity", "docs/runbooks.md"),
    (entry(match={"severity": 5}), "[0].match.severity", "docs/runbooks.md"),
    (entry(match={5: "x"}), "[0].match", "in quotes"),
    (entry(match={"device": {}}), "[0].match.device.pattern", "1 to 500 characters"),
    (entry(match={"device": {"pattern": "("}}), "[0].match.device.pattern", "Python's re"),
    (entry(match={"device": {"pattern": ".*"}}), "[0].match.device.pattern", "at least one"),
    (entry(match={"device": {"pattern": "(a+)+b"}}), "[0].match.device.pattern", "bound"),
    (entry(match={"device": {"regex": "a"}}), "[0].match.device.regex", "pattern"),
    (entry(steps=None), "[0].steps", "1 to 10"),
    (entry(steps=[]), "[0].steps", "1 to 10"),
    (entry(steps=[{"name": "s%d" % n, "crew": "on-call"} for n in range(11)]), "[0].steps",
     "1 to 10"),
    (entry(steps=["core.remote"]), "[0].steps[0]", "docs/runbooks.md"),
    (entry(steps=[{"crew": "on-call"}, {"name": "step1", "crew": "on-call"}]),
     "[0].steps[1].name", "of its own"),
    (entry({"action": None}), "[0].steps[0]", "exactly one"),
    (entry({"crew": "on-call"}), "[0].steps[0]", "exactly one"),
    (entry({"action": "core.local"}), "[0].steps[0].action", "infrastructure.allowed_actions"),
    (entry({"action": ["core.remote"]}), "[0].steps[0].action", "infrastructure.allowed_actions"),
    (entry(**without_action(crew="nobody")), "[0].steps[0].crew", "on-call"),
    (entry(**without_action(crew=["on-call"])), "[0].steps[0].crew", "on-call"),
    (entry(**without_action(crew="on-call", retries=0)), "[0].steps[0].crew", "retries"),
    (entry(**without_action(crew="on-call", seconds=5)), "[0].steps[0].crew", "seconds"),
    (entry({"approval": "maybe"}), "[0].steps[0].approval", "none, required"),
    (entry({"approval": ["none"]}), "[0].steps[0].approval", "none, required"),
    (entry({"seconds": 0}), "[0].steps[0].seconds", "0.1 to 3600"),
    (entry({"seconds": True}), "[0].steps[0].seconds", "0.1 to 3600"),
    (entry({"retries": 11}), "[0].steps[0].retries", "0 to 10"),
    (entry({"retries": "2"}), "[0].steps[0].retries", "0 to 10"),
    (entry({"settle_seconds": 3601}), "[0].steps[0].settle_seconds", "0 to 3600"),
    (entry({"check": " "}), "[0].steps[0].check", "PromQL"),
    (entry({"check": 1}), "[0].steps[0].check", "PromQL"),
    (entry({"check": "up"}), "[0].steps[0].check", "up == 1"),
    (entry({"check": "up == bool 1"}), "[0].steps[0].check", "up == 1"),
    (entry({"checks": "up == 1"}), "[0].steps[0].checks", "settle_seconds"),
    (entry({"parameters": ["mount"]}), "[0].steps[0].parameters", "docs/runbooks.md"),
    (entry({"parameters": {"a b": 1}}), "[0].steps[0].parameters", "1 to 128"),
    (entry(parameter(label=None)), "[0].steps[0].parameters.mount.label", "docs/runbooks.md"),
    (entry(parameter(label=" ")), "[0].steps[0].parameters.mount.label", "docs/runbooks.md"),
    (entry(parameter(label="m", regex="x")), "[0].steps[0].parameters.mount.regex", "one_of"),
    (entry(parameter(label="m", pattern="(a|a)*b")), "[0].steps[0].parameters.mount.pattern",
     "bound"),
    (entry(parameter(label="m", one_of=[])), "[0].steps[0].parameters.mount.one_of",
     "docs/runbooks.md"),
    (entry(parameter(label="m", host="no")), "[0].steps[0].parameters.mount.host", "true or false"),
])
def test_what_is_refused_names_its_field_and_the_way_out(raw, field, way_out):
    with pytest.raises(InvalidInput) as error:
        parsed(raw)
    assert error.value.field == "infrastructure.runbooks" + field
    assert way_out in error.value.hint and error.value.reason


@pytest.mark.parametrize("name", [
    "cmd", "CMD", "runCmd", "run-script", "extra_args", "kwargs", "env", "user", "api_key",
    "sudo_password", "PASSWORD", "query", "playbook", "options", "apikey", "auth", "kwarg_op",
    "sendmail_binary", "interpreter", "extra_vars", "workdir", "login", "keyfile",
])
def test_no_label_is_a_command_line_code_or_a_credential(name):
    step = {"parameters": {name: {"label": "instance", "one_of": ["a"], "pattern": "a"}}}
    with pytest.raises(InvalidInput) as error:
        parsed(entry(step))
    assert error.value.field == "infrastructure.runbooks[0].steps[0].parameters." + name
    assert "command line" in error.value.reason


def test_a_text_that_is_no_label_may_be_a_command():
    [runbook] = parsed(entry({"parameters": {"cmd": "journalctl --vacuum-size=200M"}}))
    assert runbook.steps[0].parameters == {"cmd": "journalctl --vacuum-size=200M"}


@pytest.mark.parametrize("value, part", [
    ({"n": {"label": "instance"}}, ".n"), ([{"label": "instance"}], "[0]"),
    ({"a": [{"b": {"label": "l", "pattern": "x", "one_of": ["x"], "host": True}}]}, ".a[0].b"),
])
@pytest.mark.parametrize("name", ["extra", "env", "args"])
def test_a_label_inside_a_parameter_is_named(name, value, part):
    with pytest.raises(InvalidInput) as error:
        parsed(entry({"parameters": {name: value}}))
    assert error.value.field == "infrastructure.runbooks[0].steps[0].parameters.%s%s" % (name, part)
    assert "inside a parameter" in error.value.reason and "the whole parameter" in error.value.hint


@pytest.mark.parametrize("value", [
    {"metadata": {"labels": {"label": "x", "app": "web"}}}, {"n": {"label": {"a": "b"}}},
    [{"labels": "x"}], {"n": {"pattern": "x"}}, {"n": {"label": 5}},
])
def test_another_object_inside_a_parameter_is_none(value):
    [runbook] = parsed(entry({"parameters": {"body": value}}))
    assert runbook.steps[0].parameters == {"body": value}


@pytest.mark.parametrize("template", [
    "systemctl restart {{ unit }}", "{{unit}}", "{% if unit %}reboot{% endif %}",
    {"a": ["x", "y {{ unit }}"]}, {"{{ unit }}": 1}, "{{ st2kv.system[unit] }}",
])
def test_no_template_of_a_step_contains_a_label(template):
    """StackStorm renders a parameter with the others."""
    parameters = {"unit": {"label": "name"}, "cmd": template}
    with pytest.raises(InvalidInput) as error:
        parsed(entry({"parameters": parameters}))
    assert error.value.field == "infrastructure.runbooks[0].steps[0].parameters.cmd"
    assert "unit" in error.value.reason


@pytest.mark.parametrize("template", ["{{ st2kv.system.unit }}", "{{ other }}", "unit", "{unit}"])
def test_another_template_is_the_user_s(template):
    parsed(entry({"parameters": {"unit": {"label": "name"}, "cmd": template}}))


def test_an_error_names_the_runbook_and_the_step():
    bad = entry(steps=[{"crew": "on-call"}, {"name": "clean", "action": "acme.absent"}])
    with pytest.raises(InvalidInput) as error:
        parsed(entry(name="first"), bad)
    assert str(error.value) == (
        "infrastructure.runbooks[1].steps[1].action 'acme.absent': is not allowed (runbook "
        "disk_full, step clean). Add it to infrastructure.allowed_actions (now: acme.mount, "
        "core.remote)."
    )
    bad = entry(name="a b", steps=[{"crew": "on-call"}, {"action": "acme.absent"}])
    with pytest.raises(InvalidInput, match=r"is not allowed \(step step2\)"):
        parsed(bad)
    with pytest.raises(InvalidInput, match=r"must be an object\. "):
        parsed(7)


def test_all_that_are_invalid_are_named_and_the_others_are_read():
    runbooks, errors = read_runbooks(
        [entry(name="a", match={}), entry(name="b"), 7, entry(name="b"), entry({"retries": -1})],
        ALLOWED, CREWS)
    assert [runbook.name for runbook in runbooks] == ["b"]
    assert [(error.runbook, error.step, error.field.rpartition("]")[2]) for error in errors] == [
        ("a", "", ".match"), ("infrastructure.runbooks[2]", "", ""), ("b", "", ".name"),
        ("disk_full", "clean", ".retries")]


def test_two_runbooks_of_one_name_are_refused():
    with pytest.raises(InvalidInput) as error:
        parsed(entry(), entry())
    assert error.value.field == "infrastructure.runbooks[1].name"


def test_there_are_at_most_200():
    many = [entry(name="r%d" % n) for n in range(201)]
    assert len(parsed(*many[:200])) == 200
    with pytest.raises(InvalidInput, match="at most 200"):
        parsed(*many)


def test_a_crew_and_a_step_have_no_name_in_common():
    """Results would not say which of the two has acted."""
    crew = {"name": "disk_full/clean", "channels": ["webhook"]}
    config = {"allowed_actions": ["core.remote"], "crews": [crew], "runbooks": [entry()]}
    with pytest.raises(InvalidInput) as error:
        InfrastructureConfig.from_config(config)
    assert error.value.field == "infrastructure.runbooks[0].steps[0].name"


def test_the_defaults_ask_a_person_and_run_an_action_once():
    [runbook] = parsed(entry(steps=[{"action": "core.remote"}]))
    [step] = runbook.steps
    assert (step.name, step.approval, step.retries, step.seconds) == ("step1", "required", 0, 60.0)
    assert (step.check, step.settle_seconds, runbook.mode) == (None, None, None)


LABELS = {"alertname": "DiskFull", "severity": "critical", "device": "/dev/sda1"}


@pytest.mark.parametrize("match, is_match", [
    ({"alertname": "DiskFull"}, True),
    ({"alertname": "Disk"}, False),
    ({"alertname": "diskfull"}, False),
    ({"severity": ["warning", "critical"]}, True),
    ({"severity": ["warning"]}, False),
    ({"alertname": "DiskFull", "severity": "warning"}, False),
    ({"alertname": "DiskFull", "severity": "critical"}, True),
    ({"device": {"pattern": "/dev/sd[a-z][0-9]"}}, True),
    ({"device": {"pattern": "/dev/sd[a-z]"}}, False),
    ({"device": {"pattern": "dev/sda1"}}, False),
    ({"mountpoint": {"pattern": ".+"}}, False),
    ({"mountpoint": "/"}, False),
])
def test_all_conditions_hold_for_the_whole_label(match, is_match):
    [runbook] = parsed(entry(match=match))
    assert (find_runbook([runbook], LABELS) is runbook) is is_match
    assert (runbook.mismatch(LABELS) is None) is is_match


def test_the_first_that_matches_is_used():
    narrow, wide, other = (
        entry(name="narrow", match={"alertname": "DiskFull", "severity": "critical"}),
        entry(name="wide"), entry(name="other", match={"alertname": "Other"}),
    )
    assert find_runbook(parsed(other, narrow, wide), LABELS).name == "narrow"
    assert find_runbook(parsed(wide, narrow), LABELS).name == "wide"
    assert find_runbook(parsed(other), LABELS) is None


@pytest.mark.parametrize("value", [None, "", 7, True, ["DiskFull"], {"a": "DiskFull"}])
def test_a_label_that_is_no_text_matches_nothing(value):
    [runbook] = parsed(entry(match={"alertname": {"pattern": ".+"}}))
    assert runbook.mismatch({"alertname": value})


@pytest.mark.parametrize("pattern, text", [
    ("(?:x{1,40}){1,40}", "x" * 400 + "!"), ("(x+x+)+y", "x" * 400),
    ("(.{0,30}a){0,30}", "b" * 500), ("([a-z]+)*", "a" * 400 + "!"),
    ("(a|aa){1,60}", "a" * 400 + "!"), (r"(\w{1,64}\.?){1,64}", "a" * 500 + "!"),
])
def test_no_label_makes_a_pattern_take_for_ever(pattern, text):
    try:
        [runbook] = parsed(entry(match={"alertname": {"pattern": pattern}}))
    except InvalidInput as error:
        assert error.field == "infrastructure.runbooks[0].match.alertname.pattern"
        return
    # This takes milliseconds; a pattern that backtracks would not let the test end.
    assert runbook.mismatch({"alertname": text})


def test_a_mismatch_says_why():
    [runbook] = parsed(entry(match={"severity": ["warning", "info"], "team": {"pattern": "a+"}}))
    assert runbook.mismatch({}) == "the alert has no label severity"
    assert runbook.mismatch(LABELS) == (
        "the label severity is 'critical'; it must be warning or info")
    assert runbook.mismatch({"severity": "info", "team": "b"}) == (
        "the label team is 'b'; it must match a+"
    )


def test_the_time_that_a_runbook_needs():
    steps = [
        {"name": "a", "action": "core.remote", "seconds": 10, "retries": 2, "settle_seconds": 5},
        {"name": "b", "action": "core.remote", "seconds": 100},
    ]
    [runbook] = parsed(entry(steps=steps))
    assert runbook.seconds_needed(60) == 3 * 10 + 5 + 100 + 60


def test_the_same_work_is_that_with_the_same_parameters():
    step = {"parameters": {"host": {"label": "instance"}, "mount": {"label": "mountpoint"}}}
    [runbook] = parsed(entry(step))
    [other] = parsed(entry(step, name="other"))
    labels = {"instance": "web-1", "mountpoint": "/data", "severity": "warning"}
    assert runbook.work_for(labels) == runbook.work_for(dict(labels, severity="critical"))
    assert runbook.work_for(labels) != runbook.work_for(dict(labels, mountpoint="/var"))
    assert runbook.work_for(labels) != other.work_for(labels)


@pytest.mark.parametrize("query, expected", [
    ("up == 1", True), ("up", False), ('up{job="a > b"}', False), ("a / b > 0.15", True),
    ("(a > 1)", True), ("count(up == 1)", True), ("absent(x)", True), ("a unless b", True),
    ("rate(x[5m]) < 0.1", True), ("up == bool 1", False), ("sum(x)", False),
    ('label_replace(up, "a > b", "$1", "c", "d")', False), ("(up == bool 1) > 0", True),
])
def test_a_check_must_be_able_to_leave_something_out(query, expected):
    assert tells_healthy_apart(query) is expected
