import pytest
from fixtures.waiting import ENDLESS_SECONDS, limit_under_test

from sandbox import cut, delay, rate_limit, reset, status

REQUEST = {"endpoint": "/api/v1/llm", "model": "gpt-4"}


def reroute(world, **parameters):
    inputs = {
        "original_request": REQUEST,
        "failure_reason": "Region unavailable",
        "fallback_regions": ["eu-west-1", "us-west-2"],
        "fallback_providers": ["anthropic", "google"],
    }
    inputs.update(parameters)
    return world.run("reroute_request", **inputs)


@pytest.mark.parametrize("method, called", [("POST", 0), ("GET", 1)])
def test_a_time_out_that_is_unsafe_to_repeat_is_left_to_a_person(world, method, called):
    for route in world.config["routes"]:
        route["unsafe_to_repeat"] = True
    request = dict(REQUEST, method=method)
    run, output = reroute(world, original_request=request, failure_reason="it timed out")
    assert len(world.box.calls) - len(world.box.calls_to("platform/webhooks")) == called
    if not called:
        assert run["status"] == "failed" and "may have taken effect" in output["error"]["message"]


def targets(output):
    return [entry["target"] for entry in output["trail"] if "attempt" in entry]


def test_a_route_that_answers_takes_two_executions(world):
    run, output = reroute(world)
    assert world.tasks(run) == ["analyze_routing_failure", "execute_request"]
    assert (output["final_provider"], output["final_region"]) == ("openai", "us-east-1")
    assert output["result"]["status_code"] == 200
    assert output["result"]["response"] == output["result"]["body"]["response"]


def test_all_regions_come_first_then_the_next_provider_in_all_regions(world):
    world.box.script("route:*", [status(503)], forever=True)
    world.config["max_retries"] = 0
    run, output = reroute(world)
    regions = ["us-east-1", "eu-west-1", "us-west-2"]
    expected = [
        "route:%s/%s" % (provider, region)
        for provider in ("openai", "anthropic", "google") for region in regions
    ]
    assert run["status"] == "failed" and targets(output) == expected
    assert len(world.tasks(run)) == 3


def test_a_dead_region_and_a_dead_provider_are_rerouted_around(world):
    world.box.kill("route:openai")
    _, output = reroute(world)
    assert (output["final_provider"], output["attempts"]) == ("anthropic", 4)
    assert world.box.calls_to("route:anthropic")[0].body["model"] == "claude-3-5-sonnet"


@pytest.mark.parametrize("fault", [status(500), rate_limit(30), reset(), cut()], ids=str)
def test_the_next_region_is_asked_at_once(world, fault):
    world.box.script("route:openai/us-east-1", [fault], forever=True)
    _, output = reroute(world)
    assert output["final_region"] == "eu-west-1" and world.local.delays == []


def test_a_slow_region_is_left_after_its_time(world):
    [slow] = [route for route in world.config["routes"]
              if (route["provider"], route["region"]) == ("openai", "us-east-1")]
    slow["timeout"] = limit_under_test(0.5)
    world.box.script("route:openai/us-east-1", [delay(ENDLESS_SECONDS)], forever=True)
    _, output = reroute(world)
    assert output["trail"][0]["cause"] == "timeout"
    assert output["final_region"] == "eu-west-1"


def test_a_provider_without_a_name_for_the_model_is_passed_over(world):
    world.config["model_map"].pop("anthropic")
    world.box.kill("route:openai")
    _, output = reroute(world)
    assert output["final_provider"] == "google"
    skipped = [entry for entry in output["trail"] if "skipped" in entry]
    assert skipped[0]["skipped"] == "model_map has no gpt-4 of anthropic"


def test_a_bad_request_is_sent_to_each_provider_once(world):
    world.box.script("route:*", [status(400)], forever=True)
    run, output = reroute(world)
    providers = [target.partition("/")[0] for target in targets(output)]
    assert run["status"] == "failed"
    assert providers == ["route:openai", "route:anthropic", "route:google"]


def test_a_bad_request_that_may_stay_with_its_provider_does(world):
    world.config["fall_over"] = {"bad_request": False}
    world.box.script("route:*", [status(400)], forever=True)
    _, output = reroute(world)
    assert len(targets(output)) == 1


def test_max_routes(world):
    world.config.update(max_routes=2, max_retries=0)
    world.box.script("route:*", [status(503)], forever=True)
    _, output = reroute(world)
    assert len(targets(output)) == 2


def test_method_body_and_headers_arrive(world):
    request = {
        "endpoint": "/v1/things/7?x=1", "method": "PUT", "body": {"a": [1]},
        "headers": {"X-Tenant": "t1"}, "provider": "google", "region": "us-west-2",
    }
    reroute(world, original_request=request)
    call = world.box.calls_to("route:google/us-west-2")[0]
    assert (call.method, call.body, call.headers["x-tenant"]) == ("PUT", {"a": [1]}, "t1")
    assert call.path.endswith("/v1/things/7")


def test_an_absolute_url_below_a_route_is_taken(world):
    base = world.config["routes"][0]["base_url"]
    _, output = reroute(world, original_request={"endpoint": base + "/v1/x"})
    assert output["success"]


@pytest.mark.parametrize(
    "request_, field",
    [
        ({}, "original_request.endpoint"),
        ({"endpoint": "https://evil.example/api"}, "original_request.endpoint"),
        ({"endpoint": "/../../admin"}, "original_request.endpoint"),
        ({"endpoint": "/%2e%2e/admin"}, "original_request.endpoint"),
        ({"endpoint": "/x", "method": "BREW"}, "original_request.method"),
        ({"endpoint": "/x", "headers": {"Authorization": "a"}},
         "original_request.headers.Authorization"),
        ({"endpoint": "/x", "provider": "acme"}, "original_request"),
        ({"endpoint": "/x", "region": "no where"}, "original_request.region"),
    ],
)
def test_bad_input_is_refused_with_the_field_and_the_way_out(world, request_, field):
    run, output = reroute(
        world, original_request=request_, fallback_providers=[], fallback_regions=[]
    )
    assert run["status"] == "failed" and world.box.calls_to("route:*") == []
    assert output["error"]["field"] == field and output["error"]["hint"]
