"""Approvals as StackStorm lists and takes them: which answers they accept, which were stored."""
import pytest

from synthralos.automation import approvals
from synthralos.core.errors import InvalidInput
from synthralos.core.timestamps import to_iso
from synthralos.runtime import run_parameters
from synthralos.storage import inquiries
from synthralos.storage.stackstorm_api import StackStormError

RUN, INQUIRY = "a" * 24, "b" * 24
YES_OR_NO = {"approved": {"type": "boolean", "description": "May it start?"}}
QUESTION = dict(YES_OR_NO, answer={"type": "string"})
FORM = dict(QUESTION, reason={"type": "string"})


class Inquiries:
    """StackStorm with one inquiry; `failing` is what a response ends with, `status` its own."""

    def __init__(self, properties):
        self.properties, self.status, self.failing, self.responses = properties, "pending", None, []
        self.run_status, self.canceled = "paused", []
        # Questions that the run has asked before; the response that StackStorm has stored.
        self.earlier, self.response, self.statuses = [], None, []

    def inquiries(self, offset=0):
        return [{"id": INQUIRY, "schema": {"properties": self.properties}}]

    def executions(self, attributes, **filters):
        return [
            {"id": inquiry_id, "start_timestamp": to_iso(1_699_999_000 + n)}
            for n, inquiry_id in enumerate([*self.earlier, INQUIRY])
        ] if filters["parent"] == RUN else []

    def set_status(self, execution_id, status, result=None):
        self.statuses.append((execution_id, status))
        return True

    def execution(self, execution_id, attributes):
        if execution_id == RUN:
            return {"action": {"ref": "synthralos.agent_recovery"}, "status": self.run_status}
        return {"status": self.status, "start_timestamp": to_iso(1_700_000_000),
                "result": {"response": self.response},
                "context": {"parent": {"pack": "synthralos", "execution_id": RUN}}}

    def cancel(self, execution_id):
        self.canceled.append(execution_id)

    def respond(self, inquiry_id, response):
        self.responses.append(response)
        if self.failing:
            self.status = self.failing
            if self.response is None and self.failing == "succeeded":
                self.response = response
            raise StackStormError("StackStorm's API answered (500)")


@pytest.fixture
def world(make_env):
    def make(properties=QUESTION):
        api = Inquiries(properties)
        return make_env({}, api=api), api

    return make


@pytest.mark.parametrize("properties, name, takes_text", [
    (YES_OR_NO, "approved", False), (QUESTION, "approved", True), (FORM, None, False),
    ({"answer": {"type": "string"}}, None, False),
])
def test_an_approval_says_which_answers_it_takes(world, properties, name, takes_text):
    env, _ = world(properties)
    (approval,) = approvals.pending(env)
    assert (approval["answer_property"], approval["takes_text"]) == (name, takes_text)


def test_a_text_is_sent_so_that_stackstorm_cannot_render_it(world):
    env, api = world()
    approvals.answer(env, RUN, text="{{ 7*7 }}")
    assert list(api.responses[0]) == ["answer"] and "{{" not in api.responses[0]["answer"]


@pytest.mark.parametrize("properties, answer, field", [
    (QUESTION, {}, "answer"),
    (QUESTION, {"approved": True, "text": "x"}, "answer"),
    (YES_OR_NO, {"text": "x"}, "answer"),
    (FORM, {"approved": True}, "execution_id"),
])
def test_an_answer_that_is_not_asked_for_is_refused(world, properties, answer, field):
    env, api = world(properties)
    with pytest.raises(InvalidInput) as refusal:
        approvals.answer(env, RUN, **answer)
    assert refusal.value.field == field and api.responses == []


@pytest.mark.parametrize("text, fits", [
    ("x" * 8000, True), ("ü" * 4000, True), ("\N{GRINNING FACE}" * 2300, False),
])
def test_an_answer_is_sent_whole_or_refused(world, text, fits):
    env, api = world()
    if fits:
        approvals.answer(env, RUN, text=text)
        assert run_parameters.decode_base64("answer", api.responses[0]["answer"]) == text
    else:
        with pytest.raises(InvalidInput, match="answer: is too long .9200 bytes"):
            approvals.answer(env, RUN, text=text)
        assert api.responses == []


def test_a_text_where_none_is_asked_for_is_not_shown(world):
    """Where an authorization is asked for, it may be the credential."""
    env, _ = world(YES_OR_NO)
    with pytest.raises(InvalidInput) as refusal:
        approvals.answer(env, RUN, text="hunter2")
    assert "hunter2" not in str(refusal.value.as_error())


class Nested(Inquiries):
    """A run within OUTER, within OUTERMOST; as many inquiries as `count`, each of its own run."""

    def __init__(self, count=1):
        super().__init__(QUESTION)
        self.count, self.statuses, self.outer_questions = count, {}, []

    def inquiries(self, offset=0):
        return [{"id": "%024x" % n, "schema": {"properties": QUESTION}} for n in range(self.count)]

    def executions(self, attributes, **filters):
        ids = ["0" + filters["parent"][1:]]
        ids = self.outer_questions if filters["parent"] in (OUTER, OUTERMOST) else ids
        return [{"id": name, "start_timestamp": to_iso(1_700_000_000)} for name in ids]

    def execution(self, execution_id, attributes):
        if execution_id in (OUTER, OUTERMOST):
            parent = {"execution_id": OUTERMOST, "pack": "other"} if execution_id == OUTER else None
        elif execution_id.startswith("a"):
            parent = {"execution_id": OUTER, "pack": "synthralos"}
        else:
            parent = {"execution_id": "a" + execution_id[1:], "pack": "synthralos"}
        return {"status": "pending", "start_timestamp": to_iso(1_700_000_000),
                "context": {"parent": parent} if parent else {}}

    def set_status(self, execution_id, status, result=None):
        self.statuses[execution_id] = status
        return True


OUTER, OUTERMOST = "c" * 24, "d" * 24


@pytest.mark.parametrize("run", [OUTER, OUTERMOST])
def test_an_approval_is_found_by_the_run_that_its_run_is_a_part_of(make_env, run):
    api = Nested()
    approval = approvals.answer(make_env({}, api=api), run, approved=True)
    assert approval["run"].startswith("a") and api.responses == [{"approved": True}]
    approvals.resume(make_env({}, api=api), approval["run"])
    assert api.statuses == {OUTERMOST: "resuming"}


def test_of_several_approvals_within_a_run_one_has_to_be_named(make_env):
    api = Nested(count=2)
    with pytest.raises(InvalidInput, match="waits for 2 approvals") as refusal:
        approvals.answer(make_env({}, api=api), OUTER, approved=True)
    assert "a%023x" % 0 in refusal.value.hint and api.responses == []
    assert approvals.answer(make_env({}, api=api), "a%023x" % 1, approved=True)


def test_an_answer_that_was_stored_counts_although_stackstorm_fails(world):
    """It does if the workflow is still being paused; the reaper resumes that."""
    env, api = world()
    api.failing = "succeeded"
    assert approvals.answer(env, RUN, approved=True)["inquiry"] == INQUIRY


def test_of_two_answers_at_the_same_moment_the_second_is_an_error_unless_it_is_the_same(world):
    env, api = world()
    api.failing, api.response = "succeeded", {"approved": True}
    with pytest.raises(InvalidInput, match="was settled in another way"):
        approvals.answer(env, RUN, approved=False)
    api.status = "pending"
    assert approvals.answer(env, RUN, approved=True)["inquiry"] == INQUIRY


def test_an_answer_to_what_was_ended_at_the_same_moment_is_an_error(world):
    env, api = world()
    api.failing = "timeout"
    with pytest.raises(InvalidInput, match="was settled in another way"):
        approvals.answer(env, RUN, approved=True)


def test_an_answer_to_one_question_is_none_to_the_next(world):
    """Two people answer the same question: the second answer meets the next one."""
    env, api = world()
    assert approvals.pending(env)[0]["id"] == RUN
    api.earlier = ["c" * 24]
    inquiries.record_inquiry(env.store, RUN, None, "web-1: acme.format")
    [approval] = approvals.pending(env)
    assert (approval["id"], approval["number"]) == (RUN + "-2", 2)
    for outdated in (RUN, RUN + "-1", RUN + "-3"):
        with pytest.raises(InvalidInput, match="web-1: acme.format") as refusal:
            approvals.answer(env, outdated, approved=True)
        assert RUN + "-2" in refusal.value.hint
    assert api.responses == []
    assert approvals.answer(env, RUN + "-2", approved=True)["run"] == RUN
    assert approvals.answer(env, INQUIRY, approved=True)["run"] == RUN


def test_an_answer_to_a_run_s_own_question_is_none_to_that_of_a_run_within_it(make_env):
    api = Nested()
    api.outer_questions = ["e" * 24]
    with pytest.raises(InvalidInput, match="does not name the question") as refusal:
        approvals.answer(make_env({}, api=api), OUTER, approved=True)
    assert "a%023x" % 0 in refusal.value.hint and api.responses == []


@pytest.mark.parametrize("timeout, late", [(101, False), (100, True), (0, False)])
def test_an_answer_after_its_time_is_none(world, clock, timeout, late):
    env, api = world()
    clock.at = 1_700_000_100.0
    until = to_iso(1_700_000_000 + timeout) if timeout else None
    assert approvals.pending(env, timeout)[0]["until"] == until
    if not late:
        assert approvals.answer(env, RUN, approved=True, timeout=timeout)
        return
    with pytest.raises(InvalidInput, match="was to be answered by") as refusal:
        approvals.answer(env, RUN, approved=True, timeout=timeout)
    assert "approval_timeout" in refusal.value.hint and api.responses == []
    assert api.statuses == [(INQUIRY, "timeout"), (RUN, "resuming")]


@pytest.mark.parametrize("typed", [
    RUN, " %s " % RUN, RUN.upper(), "<%s>" % RUN, "`%s`" % RUN, RUN + ".",
])
def test_an_id_is_read_as_people_type_it(world, typed):
    env, _ = world()
    assert approvals.answer(env, typed, approved=True)["run"] == RUN


@pytest.mark.parametrize("typed", ["", "123", RUN + "-0", RUN + "-", RUN + " now", "{{ x }}"])
def test_what_is_no_id_says_how_to_find_one(world, typed):
    env, api = world()
    with pytest.raises(InvalidInput, match="is not the id of an approval") as refusal:
        approvals.answer(env, typed, approved=True)
    assert "`approvals`" in refusal.value.hint and api.responses == []


def test_a_time_limit_of_the_run_comes_before_the_configured_one(world):
    env, _ = world()
    inquiries.record_inquiry(env.store, RUN, 1_700_000_500, "May it?")
    assert approvals.pending(env, 60)[0]["until"] == to_iso(1_700_000_500)


def test_an_answer_that_was_not_stored_is_an_error(world):
    env, api = world()
    api.failing = "pending"
    with pytest.raises(StackStormError):
        approvals.answer(env, RUN, approved=True)


def test_an_inquiry_of_a_run_that_was_cancelled_asks_nobody_and_is_closed(world):
    """StackStorm leaves it open."""
    env, api = world()
    api.run_status = "canceled"
    assert approvals.pending(env) == []
    assert approvals.expire(env, 0) == [] and api.canceled == [INQUIRY]
