"""Levels, priorities, the configuration, and text on its way out."""
import pytest

from synthralos.core import sanitize
from synthralos.core.causes import ALIASES, CAUSES, SEVERITIES
from synthralos.core.errors import InvalidInput
from synthralos.core.redaction import Redactor
from synthralos.escalation import priority
from synthralos.escalation.config import EscalationConfig
from synthralos.storage.tickets import LEVELS

MAIL = {"host": "mail.example.com", "from": "bot@example.com", "to": ["ops@example.com"]}


def facts(**more):
    ticket = {"type": "error", "cause": "server_error", "severity": "low", "occurrences": 1,
            "attempts": 0, "impact": 0, "subject": "bot"}
    return dict(ticket, **more)


def of(**more):
    return priority.priority_of(EscalationConfig(), facts(**more))


WORST = dict(severity="critical", cause="infinite_loop", occurrences=32, attempts=20, impact=10)


def test_the_whole_range_is_used():
    assert of() == 0
    assert of(**WORST) == 100


def test_nothing_short_of_the_worst_reaches_the_top():
    for name, less in (("occurrences", 31), ("attempts", 19), ("impact", 9)):
        assert of(**dict(WORST, **{name: less})) < 100


def test_priorities_spread():
    level = {
        of(severity=severity, cause=cause, occurrences=occurrences, attempts=attempts,
           impact=impact)
        for severity in SEVERITIES
        for cause in ("timeout", "quota", "content_policy")
        for occurrences in (1, 2, 5, 10, 32)
        for attempts in (0, 5, 20)
        for impact in (0, 5, 10)
    }
    assert min(level) == 0 and max(level) == 100 and len(level) > 80


def test_the_default_impact_is_the_config_s_else_the_middle():
    config = EscalationConfig.from_config({"importance": {"bot": 10}})
    expected = priority.priority_of(config, facts(impact=None))
    other = priority.priority_of(config, facts(impact=None, subject="other"))
    assert (expected, other) == (15, 7)


@pytest.mark.parametrize("severity, level", [
    ("low", "auto_recovery"), ("medium", "auto_recovery"), ("high", "supervisor_review"),
    ("critical", "critical_alert"),
])
def test_severity_gives_the_first_level(severity, level):
    assert priority.level_of(EscalationConfig(), facts(severity=severity)) == level


@pytest.mark.parametrize("occurrences, level", [
    (2, "auto_recovery"), (3, "supervisor_review"), (4, "supervisor_review"),
    (5, "human_intervention"), (500, "human_intervention"),
])
def test_runs_that_fail_again_raise_it(occurrences, level):
    assert priority.level_of(EscalationConfig(), facts(occurrences=occurrences)) == level


@pytest.mark.parametrize("cause, critical", [
    ("infinite_loop", True), ("resource", True), ("timeout", False), (None, False),
])
def test_a_critical_error_type_is_critical_at_once(cause, critical):
    level = priority.level_of(EscalationConfig(), facts(cause=cause, severity="low"))
    assert (level == "critical_alert") is critical


@pytest.mark.parametrize("name", list(ALIASES) + ["quota", "tool_failure"])
def test_a_critical_error_type_may_be_an_alias_a_cause_or_a_type(name):
    config = EscalationConfig.from_config({"critical_error_types": [name]})
    failure_type, cause = ALIASES.get(name, (name, name))
    if name == "unknown_error":
        # It has no cause of its own.
        assert not config.critical("unknown", "unknown")
    else:
        assert config.critical(failure_type, cause)
    assert not config.critical("llm_error", "rate_limit")


def test_the_judge_keeps_to_the_least_level():
    assert (
        priority.make_prioritizer(EscalationConfig(), "human_intervention")(facts())[0] ==
        "human_intervention"
    )
    critical = facts(severity="critical")
    assert (
        priority.make_prioritizer(EscalationConfig(), "auto_recovery")(critical)[0] ==
        "critical_alert"
    )


def test_priority_grows_with_every_part():
    hypothesis = pytest.importorskip("hypothesis")
    strategies = hypothesis.strategies
    whole = strategies.integers
    cases = strategies.fixed_dictionaries({
        "severity": strategies.sampled_from(SEVERITIES),
        "cause": strategies.sampled_from(sorted(CAUSES) + ["refused", "held_back", None, "x"]),
        "occurrences": whole(1, 10_000),
        "attempts": whole(0, 10_000),
        "impact": strategies.floats(0, 10),
    })

    @hypothesis.given(cases, whole(0, 100), whole(0, 100), whole(0, 3), strategies.floats(0, 10))
    def grows(text, more, calls, worse, harm):
        least = of(**text)
        assert 0 <= least <= 100 and isinstance(least, int)
        rank = min(3, SEVERITIES.index(text["severity"]) + worse)
        assert of(**dict(text, severity=SEVERITIES[rank])) >= least
        assert of(**dict(text, occurrences=text["occurrences"] + more)) >= least
        assert of(**dict(text, attempts=text["attempts"] + calls)) >= least
        assert of(**dict(text, impact=max(text["impact"], harm))) >= least
        assert of(**dict(text, cause="infinite_loop")) >= least
        level = LEVELS.index(priority.level_of(EscalationConfig(), facts(**text)))
        again = dict(text, occurrences=text["occurrences"] + more, severity=SEVERITIES[rank])
        assert LEVELS.index(priority.level_of(EscalationConfig(), facts(**again))) >= level

    grows()


def test_the_defaults_of_the_configuration():
    config = EscalationConfig.from_config(None)
    assert config == EscalationConfig()
    assert (config.max_auto_recovery_attempts, config.escalation_timeout) == (5, 300)
    assert config.critical_error_types == ("infinite_loop", "resource_error")
    states = {name: config.state(name) for name in ("mail", "slack", "webhook", "announcement")}
    assert states == {
        "mail": "not_configured", "slack": "off", "webhook": "off", "announcement": "off"}


def test_the_configuration_as_the_documents_have_it():
    config = EscalationConfig.from_config({
        "max_auto_recovery_attempts": 2,
        "escalation_timeout": 600,
        "critical_error_types": ["resource_error"],
        "notification_channels": {"email": True, "slack": True, "webhook": False},
        "mail": MAIL,
    })
    assert config.on == ("mail", "slack") and config.supervisor_review_after == 2
    assert (config.state("mail"), config.state("slack")) == ("ready", "not_configured")
    assert (config.mail.port, config.mail.encryption) == (587, "starttls")


@pytest.mark.parametrize("more, port, encryption", [
    ({"ssl": True}, 465, "ssl"), ({"starttls": False}, 25, "none"), ({"port": 2525}, 2525,
                                                                     "starttls"),
])
def test_ports_follow_the_encryption(more, port, encryption):
    config = EscalationConfig.from_config({"mail": dict(MAIL, **more)})
    assert (config.mail.port, config.mail.encryption) == (port, encryption)


@pytest.mark.parametrize("entry, named", [
    ([], "escalation"), ({"escalation_timeout": -1}, "escalation_timeout"),
    ({"escalation_timeout": True}, "escalation_timeout"),
    ({"max_auto_recovery_attempts": 0}, "max_auto_recovery_attempts"),
    ({"max_auto_recovery_attempts": 1.5}, "max_auto_recovery_attempts"),
    ({"critical_error_types": "infinite_loop"}, "critical_error_types"),
    ({"importance": {"bot": 11}}, "importance.bot"), ({"importance": {"{{ x }}": 1}}, "importance"),
    ({"notify_from": "nobody"}, "notify_from"),
    ({"notification_channels": {"sms": True}}, "notification_channels.sms"),
    ({"notification_channels": {"slack": "yes"}}, "notification_channels.slack"),
    ({"mail": dict(MAIL, to=[])}, "mail.to"), ({"mail": dict(MAIL, to="x")}, "mail.to[0]"),
    ({"mail": dict(MAIL, to=["a@b\r\nBcc: c@d"])}, "mail.to[0]"),
    ({"mail": {"host": "h", "to": ["a@b"]}}, "mail.from"),
    ({"mail": dict(MAIL, port=0)}, "mail.port"),
    ({"mail": dict(MAIL, ssl=True, starttls=True)}, "mail.starttls"),
    ({"mail": dict(MAIL, starttls=False, username="u")}, "mail.username"),
    ({"slack": {"url": "hooks.example.com"}}, "slack.url"),
    ({"webhook": {"url": "ftp://h"}}, "webhook.url"), ({"webhook": "http://h"}, "webhook"),
])
def test_what_is_wrong_is_named(entry, named):
    with pytest.raises(InvalidInput) as refused:
        EscalationConfig.from_config(entry)
    assert refused.value.field.endswith(named) and refused.value.hint


def test_an_address_of_a_hook_is_a_secret():
    with pytest.raises(InvalidInput) as refused:
        EscalationConfig.from_config({"slack": {"url": "very-secret"}})
    assert "very-secret" not in str(refused.value)
    config = EscalationConfig.from_config({
        "mail": dict(MAIL, username="u", password="mail-password"),
        "slack": {"url": "https://h/very-secret"},
        "webhook": {"url": "https://h/x", "token": "a-token", "routing_key": "a-key"},
    })
    assert set(config.secrets()) == {
        "mail-password", "https://h/very-secret", "https://h/x", "a-token", "a-key"}


REDACTOR = Redactor(["very-secret"])
HOSTILE = [
    "{{ config_context.x }}", "{% raw %}", "{# note #}", "<% ctx() %>", "<%= erb %>",
    "{{{ x }}}", "{{{{", "<%%>", "{%%}", "{\x00{ x }\x00}", "{\u202e{ x }}", "{\ud800{", "{{.V.x}}",
]
MARKS = ("{{", "}}", "{%", "%}", "{#", "#}", "<%", "%>")


@pytest.mark.parametrize("hostile", HOSTILE)
def test_template_marks_are_broken_and_it_says_so(hostile):
    text = sanitize.sanitize_text(hostile, REDACTOR, 500)
    assert not any(mark in text for mark in MARKS)
    if any(mark in hostile for mark in MARKS):
        assert text.endswith(sanitize.NOTE)
    text.encode("utf-8")
    # What was made harmless stays as it is.
    assert sanitize.sanitize_text(text, REDACTOR, 500) == text


def test_plain_text_stays_as_it_is():
    plain = "100 % of {a: 1} <b> \u00fc \U0001f600\nsecond line\tx"
    assert sanitize.sanitize_text(plain, REDACTOR, 500) == plain


def test_secrets_are_masked_and_the_length_is_bound():
    text = sanitize.sanitize_text("very-secret " + "x" * 1_000_000 + "{{", REDACTOR, 100)
    assert "very-secret" not in text and len(text) == 100
    assert text.endswith(sanitize.TRUNCATION_MARK + sanitize.NOTE)


def test_a_line_is_one_line():
    text = sanitize.sanitize_line("a\r\nBcc: x@y\x0b\x85\u2028b", REDACTOR, 100)
    assert text.isprintable() and text == "a Bcc: x@y b"


def test_values_are_harmless_at_every_depth():
    deep = {"a": [{"b": ["{{ x }}"]}], "{{ k }}": 1, "n": None, "token": "abc"}
    text = sanitize.sanitize_value(deep, REDACTOR, 100)
    assert not any(mark in str(text["a"]) for mark in ("{{ ", "<%"))
    assert all("{{" not in key for key in text) and text["n"] is None
    assert text["token"] == "********"
    nested = "x"
    for _ in range(50):
        nested = {"{{": nested}
    sanitize.sanitize_value(nested, REDACTOR, 100)


def test_any_text_comes_out_without_a_mark():
    hypothesis = pytest.importorskip("hypothesis")
    strategies = hypothesis.strategies
    hostile = strategies.text(alphabet="{}%<>#x \n\x00\u202e\r\ud800", max_size=60)

    @hypothesis.given(hostile, strategies.integers(60, 120))
    def inert(raw, longest):
        text = sanitize.sanitize_text(raw, REDACTOR, longest)
        assert not any(mark in text for mark in MARKS) and len(text) <= longest
        assert "\n" not in sanitize.sanitize_line(raw, REDACTOR, longest)

    inert()
