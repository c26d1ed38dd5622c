"""What a run of an orchestration keeps, reads again, and shows a model."""
import pytest
from fixtures.waiting import limit_under_test

from synthralos.core.errors import InvalidInput
from synthralos.orchestration import prompts, run_store, step_limits
from synthralos.orchestration.run_context import INLINE_BYTES, Context, make_slot, make_slots
from synthralos.orchestration.run_store import RunStore
from synthralos.storage.datastore import DatastoreUnavailable

LONG = "x" * (INLINE_BYTES + 1)
DEADLINE = 1_700_000_600.0


@pytest.fixture
def stored_run(make_env):
    return RunStore(make_env(), "5f0c", sleep=lambda _: None)


def begun(stored_run, **more):
    stored_run.begin(dict({"definition": {"steps": []}, "name": "flow", "id": "O1", "input": {},
                     "resume_of": None, "parent_run": None}, **more))


def test_what_is_written_is_read_again(stored_run):
    begun(stored_run)
    assert stored_run.definition()["name"] == "flow"
    state = {"cursor": 3, "stack": [], "context": {"a": {"v": "{{ x }}"}}, "log": [], "pages": []}
    stored_run.checkpoint(state, DEADLINE)
    stored_run.checkpoint(dict(state, cursor=12), DEADLINE)
    assert (
        stored_run.state(3)["context"] == state["context"] and stored_run.newest()["cursor"] == 12
    )
    stored_run.end({"status": "completed"})
    assert stored_run.newest()["cursor"] == 12 and stored_run.ended() == {"status": "completed"}
    keys = stored_run.waves({"first": 11}, stored_run.newest())
    assert [key.rpartition(".")[2] for key in keys] == ["00011", "00012"]


def test_nothing_is_there_of_a_run_that_was_none(stored_run):
    assert (
        stored_run.definition() is None and
        stored_run.newest() is None and
        stored_run.ended() is None
    )
    assert stored_run.waves(None, None) == [] and stored_run.records(1) == {}
    assert stored_run.record(stored_run.step_key(1, 0)) is None


def test_the_records_of_a_wave_are_of_that_wave_and_run(stored_run, make_env):
    for wave, job in ((1, 0), (1, 1), (11, 0)):
        stored_run.put_record(stored_run.step_key(wave, job), {"output": [wave, job]})
    other = RunStore(make_env(), "5f0d")
    other.put_record(other.step_key(1, 0), {"output": "other"})
    assert [record["output"] for record in stored_run.records(1).values()] == [[1, 1], [1, 0]]


def test_more_records_than_a_page(stored_run):
    for job in range(230):
        stored_run.put_record(stored_run.step_key(1, job), {"output": job})
    assert len(stored_run.records(1)) == 230


def test_a_long_log_is_put_away_page_by_page(stored_run, monkeypatch):
    """What a checkpoint takes does not grow with the steps that a run has had."""
    monkeypatch.setattr(run_store, "LOG_PAGE", 10)
    state, sizes = {"cursor": 0, "context": {}, "log": [], "pages": []}, []
    for n in range(47):
        state["cursor"] += 1
        state["log"].append({"step_id": "s%d" % n, "attempts": n})
        stored_run.checkpoint(state, DEADLINE)
        state = stored_run.newest()
        sizes.append(len(state["log"]))
    assert max(sizes) < 10 and len(state["pages"]) == 4
    log = RunStore(stored_run._env, stored_run.run).log(state)
    assert [entry["step_id"] for entry in log] == ["s%d" % n for n in range(47)]
    attempts = run_store.attempts_of(state["log"]) + sum(
        page["attempts"] for page in state["pages"]
    )
    assert attempts == run_store.attempts_of(log) == sum(range(47))


def test_a_page_of_the_log_that_is_gone_is_told(stored_run):
    state = {"log": [], "pages": [{"at": stored_run.step_key(1, 0), "attempts": 1}]}
    with pytest.raises(InvalidInput, match="no longer in the datastore"):
        stored_run.log(state)


def test_a_record_has_its_place(stored_run):
    with pytest.raises(InvalidInput, match="not the key of a step"):
        stored_run.put_record("synthralos.ticket.T1", {})
    assert stored_run.record("synthralos.wave.5f0c.definition") is None


def test_a_value_that_is_too_large_is_refused(stored_run, monkeypatch):
    monkeypatch.setattr(run_store, "MAX_RECORD_BYTES", 1000)
    with pytest.raises(InvalidInput, match="more than the limit of 1000"):
        stored_run.put_record(stored_run.step_key(1, 0), {"output": [str(n) for n in range(2000)]})


def test_configured_secrets_are_not_kept(make_env):
    env = make_env()
    env.redactor.add("a-secret-of-ours")
    stored_run = RunStore(env, "5f0c")
    stored_run.put_record(stored_run.step_key(1, 0), {"output": "it is a-secret-of-ours"})
    assert stored_run.records(1)[stored_run.step_key(1, 0)]["output"] == "it is ********"


@pytest.mark.parametrize("failures, good", [(1, True), (2, True), (3, False)])
def test_a_datastore_that_fails_a_call_is_asked_again(make_env, datastore, failures, good):
    slept, left, read = [], [True] * failures, datastore.get

    def get(name, decrypt=False):
        datastore.away = ("get",) if left else ()
        if left:
            left.pop()
        return read(name)

    stored_run = RunStore(make_env(), "5f0c", sleep=slept.append)
    stored_run.end({"status": "x"})
    datastore.get = get
    if good:
        assert stored_run.ended() == {"status": "x"} and len(slept) == failures
    else:
        with pytest.raises(DatastoreUnavailable, match="cannot be stored or read"):
            stored_run.ended()


def test_runs_are_listed_newest_first(make_env, clock):
    env = make_env()
    for n in range(3):
        begun(RunStore(env, "5f0%d" % n), name="flow %d" % n)
        clock.forward(5)
    heads = run_store.recent_runs(env, 2)
    assert [(head["run"], head["name"]) for head in heads] == [
        ("5f02", "flow 2"),
        ("5f01", "flow 1"),
    ]
    assert heads[0]["at"] == clock.at - 5


def test_records_are_renewed(stored_run, clock, datastore):
    key = stored_run.step_key(1, 0)
    stored_run.put_record(key, {"output": 1})
    clock.forward(run_store.TTL_SECONDS - 10)
    assert stored_run.renew([key, stored_run.step_key(1, 1)]) == [stored_run.step_key(1, 1)]
    clock.forward(20)
    assert datastore.get(key) is not None


def context(stored_run, values, run_input=None):
    """A Context of values, of which the long ones stand in a record."""
    key = stored_run.step_key(1, 0)
    stored_run.put_record(key, {"context": values, "output": "own"})
    return Context(stored_run, make_slots(key, values), run_input)


def test_short_values_stand_in_the_state_and_long_ones_elsewhere():
    slots = make_slots("k", {"a": 1, "b": LONG})
    assert slots == {"a": {"v": 1}, "b": {"at": "k", "name": "b"}}
    assert make_slot(LONG, {"at": "k", "name": None}) == {"at": "k", "name": None}


def test_only_what_may_be_named_is_read(stored_run):
    run_context = context(stored_run, {"plan": LONG, "code": LONG, "n": 1}, {"q": 2})
    assert set(run_context.template_roots("{{context.n}}")["context"]) == {"n", "input"}
    assert run_context.template_roots("{{context['plan']}}")["context"]["plan"] == LONG
    assert set(run_context.template_roots("{{context}}")["context"]) == {
        "plan",
        "code",
        "n",
        "input",
    }
    assert set(run_context.template_roots()["context"]) == {"plan", "code", "n", "input"}
    assert run_context.template_roots({"field": "n"})["input"] == {"q": 2}


def test_the_input_of_a_step(stored_run):
    run_context = context(stored_run, {"a": 1, "b": LONG}, {"q": 2})
    step = {"name": "s", "input": None, "output": None, "context_keys": []}
    assert run_context.step_input(step) == {"a": 1, "b": LONG, "input": {"q": 2}}
    assert run_context.step_input(dict(step, context_keys=["b", "nothing"])) == {"b": LONG}
    mapped = dict(step, input={"x": "{{context.a}}", "y": ["{{input.q}}"]})
    assert run_context.step_input(mapped) == {"x": 1, "y": [2]}
    assert (
        run_context.step_input(dict(step, input="{{context.a}} of {{context.b}}")) == "1 of " + LONG
    )


def test_what_an_output_sets(stored_run):
    run_context = context(stored_run, {"a": 1})
    step = {"name": "s", "output": None}
    assert run_context.output_values(step, "{{context.a}}") == {"s": "{{context.a}}"}
    mapped = dict(step, output={"k": "{{output.x}}", "a": "{{context.a}}"})
    assert run_context.output_values(mapped, {"x": "{{output}}"}) == {"k": "{{output}}", "a": 1}


def test_a_value_whose_record_is_gone_is_refused(stored_run):
    run_context = Context(stored_run, {"a": {"at": stored_run.step_key(9, 9), "name": None}}, None)
    with pytest.raises(InvalidInput, match="no longer in the datastore"):
        run_context.template_roots()


ROLE = {
    "name": "r", "base_prompt": "Be brief.", "tone": None, "domain_knowledge": [],
    "criteria": None, "terminal_restrictions": None, "defaults": {}, "given": [], "tools": [],
}


def test_a_prompt_has_what_the_role_says_and_the_input_as_it_is():
    messages = prompts.messages(ROLE, "{{ x }} <% y %>")
    assert messages == [{"role": "system", "content": "Be brief."},
                     {"role": "user", "content": "{{ x }} <% y %>"}]
    whole = dict(ROLE, tone="dry", domain_knowledge=["a", "b"], criteria={"words": 5},
                 terminal_restrictions="no jokes")
    system = prompts.messages(whole, {"k": "\u00fc"}, {"type": "object"})[0]["content"]
    for text in ("Tone: dry", "- a\n- b", '"words": 5', "no jokes", '{"type": "object"}'):
        assert text in system
    assert prompts.messages(ROLE, {"k": "\u00fc"})[1]["content"] == '{\n "k": "\u00fc"\n}'
    assert prompts.messages(ROLE, "")[1]["content"] == "(no input)"


def test_only_what_the_author_gave_is_sent():
    role = dict(ROLE, defaults={"temperature": 0.7, "max_tokens": 9, "stop": None,
                                "response_format": "json_object"},
                given=["max_tokens", "stop", "response_format"])
    sent = prompts.sampling(role)
    assert sent == {"max_tokens": 9, "response_format": {"type": "json_object"}}


@pytest.mark.parametrize("written, sent", [
    ("json_object", {"type": "json_object"}), ("json_schema", {"type": "json_object"}),
    ({"type": "text"}, None), ("xml", None),
    ({"type": "json_schema", "json_schema": {"schema": {"type": "object"}}},
     {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}),
])
def test_a_response_format_is_one_that_every_model_can_be_asked_for(written, sent):
    role = dict(ROLE, defaults={"response_format": written}, given=["response_format"])
    assert prompts.sampling(role).get("response_format") == sent


def test_a_critic_is_told_its_scale():
    system, user = prompts.critic_messages(ROLE, {"q": 1}, "answer")
    assert '"maximum": 1}' in system["content"] and '"answer": "answer"' in user["content"]


STEP = {"timeout": limit_under_test(10), "retry_delay": 5, "max_retries": 2}


def test_the_time_of_a_step():
    assert step_limits.budget(STEP) == 3 * 10 + 2 * step_limits.HINT_SECONDS
    assert step_limits.budget({}) == step_limits.DEFAULT_STEP_SECONDS
    assert step_limits.budget(dict(STEP, retry_delay=90.5)) == 30 + 181


@pytest.mark.parametrize("left, limit", [(1000, 180), (100.7, 130), (-5, 30)])
def test_the_runner_s_own_limit_is_beyond_the_step_s(left, limit):
    assert step_limits.limit([STEP, {"timeout": limit_under_test(1)}], left) == limit


def test_an_attempt_ends_with_the_run_and_one_may_begin_after_it(clock):
    from synthralos.calls.deadline import Deadline

    time = step_limits.StepTimeLimit(STEP, Deadline(clock.at + 20, clock), clock)
    attempt = time.attempt()
    assert attempt.seconds_left() == 10 and attempt.allows_attempt_at(clock.at + 15)
    assert not attempt.allows_attempt_at(clock.at + 18)
    clock.forward(15)
    assert time.attempt().seconds_left() == 3 and time.allows() and not time.allows(3)
    clock.forward(3)
    assert not time.attempt().allows_attempt()


def test_an_attempt_of_under_a_second_begins(clock):
    from synthralos.calls.deadline import Deadline

    time = step_limits.StepTimeLimit(
        {"timeout": limit_under_test(0.5)}, Deadline(clock.at + 20, clock), clock
    )
    assert time.attempt().allows_attempt()
