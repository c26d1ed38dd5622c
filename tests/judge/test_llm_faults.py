import pytest
from fixtures.waiting import until, within_some_limit


def succeeded_with(run, model, rounds):
    assert (run.status, run.output["final_model"]) == ("succeeded", model)
    assert run.output["result"]["response"]
    assert run.tasks == ["determine_retry_strategy"] + ["call_llm"] * rounds
    return True


def answered_at_once(run, model):
    return succeeded_with(run, model, rounds=1) and run.delays == []


def failed_with_a_ticket(run):
    assert run.status == "failed" and run.output["success"] is False
    assert run.tasks[-1] == "log_retry_failure"
    assert run.output["ticket"] and run.output["error"]["reason"]
    return True


def test_a_rate_limit_is_answered_by_the_fallback_at_once(judge, pack, wire):
    judge.fails(429, wire.primary, times=2, retry_after=2)
    run = pack.retry(wire.primary, [wire.fallback])
    assert answered_at_once(run, wire.fallback)
    assert judge.requested_models() == [wire.primary, wire.fallback]


def test_without_a_fallback_the_same_model_is_asked_no_sooner_than_it_said(judge, pack, wire):
    judge.fails(429, wire.primary, times=2, retry_after=2)
    run = pack.retry(wire.primary)
    assert succeeded_with(run, wire.primary, rounds=3)
    assert judge.requested_models() == [wire.primary] * 3
    assert run.delays == [2, 2] and min(judge.pauses()) >= 2


def test_nobody_waits_for_a_long_hint_while_there_is_a_fallback(judge, pack, wire):
    judge.fails(429, wire.primary, retry_after=30)
    run = pack.retry(wire.primary, [wire.fallback])
    assert answered_at_once(run, wire.fallback)
    assert judge.requested_models() == [wire.primary, wire.fallback]


def test_later_runs_leave_the_model_alone_until_its_hint_has_passed(judge, pack, wire):
    judge.fails(429, wire.primary, retry_after=30)
    for _ in range(2):
        assert answered_at_once(pack.retry(wire.primary, [wire.fallback]), wire.fallback)
    assert judge.requested_models() == [wire.primary, wire.fallback, wire.fallback]


def test_a_hint_beyond_the_deadline_ends_the_run_now(judge, pack, wire):
    judge.fails(429, wire.primary, retry_after=300)
    run = pack.retry(wire.primary, timeout=300)
    assert failed_with_a_ticket(run)
    assert judge.requested_models() == [wire.primary] and run.delays == []


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_is_wrong_with_one_model_is_tried_with_the_next_and_never_twice(
    judge, pack, wire, status
):
    judge.fails(status, wire.primary)
    run = pack.retry(wire.primary, [wire.fallback])
    assert answered_at_once(run, wire.fallback)
    assert judge.requested_models() == [wire.primary, wire.fallback]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_each_model_is_asked_once_when_it_is_wrong_with_all(judge, pack, wire, status):
    judge.fails(status)
    run = pack.retry(wire.primary, [wire.fallback])
    assert failed_with_a_ticket(run)
    assert judge.requested_models() == [wire.primary, wire.fallback] and run.delays == []


@pytest.mark.parametrize("status", [400, 422])
def test_a_refused_request_is_sent_once_and_to_the_other_provider(judge, pack, wire, status):
    judge.fails(status, wire.primary)
    run = pack.retry(wire.primary, [wire.fallback])
    assert answered_at_once(run, wire.fallback)
    assert judge.requested_models() == [wire.primary, wire.fallback]
    assert run.causes == ["bad_request", None]


@pytest.mark.parametrize("status", [400, 422])
def test_a_request_that_all_refuse_is_sent_to_each_of_them_once(judge, pack, wire, status):
    judge.fails(status)
    run = pack.retry(wire.primary, [wire.fallback])
    assert failed_with_a_ticket(run)
    assert judge.requested_models() == [wire.primary, wire.fallback] and run.delays == []


def test_a_key_that_nobody_renewed_is_not_sent_again(judge, pack, wire):
    for provider in pack.config["providers"]:
        del provider["api_key"]
        provider["api_key_from"] = "%s_key" % provider["name"]
        pack.local.keys.set(provider["api_key_from"], "old", encrypt=True)
    judge.fails(401, wire.primary)
    assert answered_at_once(pack.retry(wire.primary, [wire.fallback]), wire.fallback)
    assert judge.requested_models() == [wire.primary, wire.fallback]


def test_a_used_up_quota_is_not_asked_for_again(judge, pack, wire):
    judge.fails(model=wire.primary, **wire.no_quota)
    run = pack.retry(wire.primary)
    assert failed_with_a_ticket(run)
    assert judge.requested_models() == [wire.primary] and run.delays == []
    assert run.causes == ["quota"]


def test_a_used_up_quota_goes_to_the_fallback(judge, pack, wire):
    judge.fails(model=wire.primary, **wire.no_quota)
    run = pack.retry(wire.primary, [wire.fallback])
    assert answered_at_once(run, wire.fallback)
    assert judge.requested_models() == [wire.primary, wire.fallback]


def test_a_prompt_that_is_too_long_goes_to_a_larger_window_only(judge, pack, wire):
    judge.fails(model=wire.primary, **wire.too_long)
    run = pack.retry(wire.primary, [wire.smaller, wire.fallback, wire.larger])
    assert answered_at_once(run, wire.larger)
    assert judge.requested_models() == [wire.primary, wire.larger]
    assert run.causes == ["context_length", None]


def test_a_prompt_that_is_too_long_for_all_is_sent_once(judge, pack, wire):
    judge.fails(model=wire.primary, **wire.too_long)
    run = pack.retry(wire.primary, [wire.smaller, wire.fallback])
    assert failed_with_a_ticket(run)
    assert judge.requested_models() == [wire.primary] and run.delays == []


# With 503 and 529 llmock sends a hint of one second.
@pytest.mark.parametrize("status, delays", [(500, []), (503, [1]), (529, [1])])
def test_a_server_that_comes_back_answers(judge, pack, wire, status, delays):
    judge.fails(status, wire.primary, times=1)
    run = pack.retry(wire.primary)
    assert succeeded_with(run, wire.primary, rounds=2)
    assert judge.requested_models() == [wire.primary] * 2
    assert run.delays == delays


@pytest.mark.parametrize("status", [500, 503, 529])
def test_a_server_that_is_down_is_replaced_at_once(judge, pack, wire, status):
    judge.fails(status, wire.primary)
    run = pack.retry(wire.primary, [wire.fallback])
    assert answered_at_once(run, wire.fallback)
    assert judge.requested_models() == [wire.primary, wire.fallback]


@pytest.mark.parametrize(
    "status, max_retries, delays", [(500, 3, []), (503, 1, [1]), (529, 1, [1])]
)
def test_a_server_that_stays_down_is_asked_again_no_more_than_max_retries(
    judge, pack, wire, status, max_retries, delays
):
    judge.fails(status, wire.primary)
    run = pack.retry(wire.primary, max_retries=max_retries)
    assert failed_with_a_ticket(run)
    assert judge.requested_models() == [wire.primary] * (1 + max_retries)
    assert run.delays == delays


def has_seen(judge, *models):
    """Waits until the judge has, which notes a request once its stall is over."""
    return until(
        lambda: sorted(judge.requested_models()) == sorted(models), "%s were asked" % (models,)
    )


def test_a_stalled_answer_is_given_up_for_the_fallback(judge, packs, wire):
    def passes(seconds):
        judge.reset()
        pack = packs()
        pack.config["attempt_timeouts"] = {"llm": seconds}
        judge.stalls(3 * seconds, wire.primary)
        run = pack.retry(wire.primary, [wire.fallback])
        return run.causes == ["timeout", None] and answered_at_once(run, wire.fallback) and (
            has_seen(judge, wire.primary, wire.fallback))

    within_some_limit(1, passes)


def test_a_stalled_answer_is_asked_for_again(judge, packs, wire):
    def passes(seconds):
        judge.reset()
        pack = packs()
        pack.config["attempt_timeouts"] = {"llm": seconds}
        judge.stalls(3 * seconds, wire.primary, times=1)
        run = pack.retry(wire.primary)
        return run.causes == ["timeout", None] and succeeded_with(run, wire.primary, rounds=2) and (
            has_seen(judge, wire.primary, wire.primary))

    within_some_limit(1, passes)


def cut(content):
    return content[: len(content) // 2]


def malformed(content):
    return content.replace(b'"', b"'")


DAMAGES = pytest.mark.parametrize(
    "damage, cause", [(cut, "truncated_stream"), (malformed, "malformed_answer")]
)


@DAMAGES
def test_a_damaged_answer_is_never_taken_for_one(judge, pack, wire, relay, damage, cause):
    relay.damages(damage, times=1)
    run = pack.retry(wire.primary, [wire.fallback])
    assert answered_at_once(run, wire.fallback)
    assert judge.requested_models() == [wire.primary, wire.fallback]
    assert run.causes == [cause, None]


@DAMAGES
def test_a_damaged_answer_is_asked_for_again(judge, pack, wire, relay, damage, cause):
    relay.damages(damage, times=1)
    run = pack.retry(wire.primary)
    assert succeeded_with(run, wire.primary, rounds=2)
    assert judge.requested_models() == [wire.primary] * 2
    assert run.causes == [cause, None]
