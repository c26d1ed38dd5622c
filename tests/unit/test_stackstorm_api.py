import json

import pytest

from synthralos.storage.datastore import DatastoreUnavailable
from synthralos.storage.stackstorm_api import Api, StackStormError

from .conftest import http_answer


def answering(serve, status=200, body="{}"):
    server = serve(http_answer(status, body))
    return Api(server.url + "/v1", "t0ken"), server


def test_a_key_is_put_as_text_with_its_time_to_live(serve):
    api, server = answering(serve)
    api.put("a/b", "v", ttl=5.9)
    head, _, body = server.requests[0].partition("\r\n\r\n")
    assert head.startswith("PUT /v1/keys/a%2Fb ") and "X-Auth-Token: t0ken" in head
    assert json.loads(body) == {"name": "a/b", "value": "v", "ttl": 5}


def test_a_key_is_got_decrypted_where_asked(serve):
    api, server = answering(serve, body='{"name": "a", "value": "v"}')
    assert api.get("a") == "v" and api.get("a", decrypt=True) == "v"
    assert server.requests[0].startswith("GET /v1/keys/a ")
    assert server.requests[1].startswith("GET /v1/keys/a?decrypt=true ")


def test_keys_are_listed_newest_first(serve):
    api, server = answering(serve, body='[{"name": "b", "value": "2"}]')
    assert api.list("p.", limit=7, offset=14) == [("b", "2")]
    assert "prefix=p.&sort=-name&limit=7&offset=14" in server.requests[0]


def test_what_is_not_there_is_none(serve):
    api, _ = answering(serve, 404)
    assert api.get("a") is None and api.delete("a") is False
    with pytest.raises(StackStormError, match="does not exist"):
        api.execution("x")


@pytest.mark.parametrize("status, body", [(500, ""), (403, "{}"), (401, "{}"), (200, "<html>")])
def test_a_datastore_that_does_not_answer_well_is_away(serve, status, body):
    api, _ = answering(serve, status, body)
    for ask in (lambda: api.get("a"), lambda: api.put("a", "v"), lambda: api.list("a")):
        with pytest.raises(DatastoreUnavailable):
            ask()


@pytest.mark.parametrize("body", [
    "5", "null", '"x"', "[5]", "[null]", '[{"name": "a"}]', '[{"value": "a"}]', "{}",
    '[{"name": "a", "value": 5, "id": null}, 7]',
])
def test_a_datastore_that_answers_in_another_form_is_away(serve, body):
    api, _ = answering(serve, body=body)
    asks = [lambda: api.get("a"), lambda: api.list_keys("a")]
    if body != "{}":
        asks.append(lambda: api.list("a"))
        for ask in asks:
            with pytest.raises(DatastoreUnavailable, match="unexpected response"):
                ask()


@pytest.mark.parametrize("body", ["5", "null", '"x"', '["x"]'])
def test_what_is_no_execution_is_an_error_of_the_api(serve, body):
    api, _ = answering(serve, body=body)
    for ask in (
        lambda: api.execution("p"), lambda: api.executions("id"), lambda: api.inquiries(),
        lambda: api.children("p", "id"), lambda: api.action("core.local"),
    ):
        with pytest.raises(StackStormError, match="unexpected response"):
            ask()


def test_children_in_another_form_are_an_error_of_the_api(serve):
    with pytest.raises(StackStormError, match="unexpected response"):
        answering(serve, body='[{"id": "b"}]')[0].children("p", "id")


def test_a_token_that_cannot_be_sent_is_told_without_it(serve):
    server = serve(http_answer(200, "{}"))
    api = Api(server.url + "/v1", "tłken")
    with pytest.raises(DatastoreUnavailable, match="cannot be called") as caught:
        api.get("a")
    assert "ken" not in str(caught.value)


def test_an_api_that_is_away_says_so():
    api = Api("http://127.0.0.1:1/v1")
    with pytest.raises(DatastoreUnavailable):
        api.get("a")
    with pytest.raises(StackStormError):
        api.fire("t", {})
    with pytest.raises(StackStormError):
        api.execution("x")


def test_a_trigger_is_fired(serve):
    api, server = answering(serve)
    api.fire("pack.t", {"a": 1})
    assert server.requests[0].startswith("POST /v1/webhooks/st2 ")
    assert json.loads(server.requests[0].partition("\r\n\r\n")[2]) == {
        "trigger": "pack.t", "payload": {"a": 1}}


def test_an_action_is_looked_up(serve):
    api, server = answering(serve, body='{"ref": "p.a", "enabled": true}')
    assert api.action("p.a")["enabled"] is True
    assert server.requests[0].startswith("GET /v1/actions/p.a ")
    assert answering(serve, 404)[0].action("p.a") is None
    with pytest.raises(StackStormError):
        answering(serve, 403)[0].action("p.a")


def test_children_come_in_the_order_of_their_start(serve):
    rows = [{"id": "b", "start_timestamp": "2"}, {"id": "a", "start_timestamp": "1"}]
    api, _ = answering(serve, body=json.dumps(rows))
    assert [row["id"] for row in api.children("x", "id")] == ["a", "b"]
