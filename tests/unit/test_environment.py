import json

import pytest

from synthralos.config.connection import Connection
from synthralos.core.errors import InvalidInput


def test_a_literal_secret_is_given(make_env):
    assert make_env().credentials(Connection("http://h", secret="abc")) == ("abc", {})
    assert make_env().credentials(Connection("http://h")) == (None, {})


def test_a_stored_secret_is_read_once_and_anew_when_asked(make_env, store):
    env, connection = make_env(), Connection("http://h", secret_from="k")
    store.put("k", "first-secret")
    assert env.credentials(connection)[0] == "first-secret"
    store.put("k", "second-secret")
    assert env.credentials(connection)[0] == "first-secret"
    assert env.credentials(connection, fresh=True)[0] == "second-secret"
    assert env.credentials(connection)[0] == "second-secret"


def test_what_was_read_is_redacted(make_env, store):
    env = make_env()
    store.put("k", "first-secret")
    store.put("h", '{"X-Key": "header-secret", "X-N": 5}')
    credentials = env.credentials(Connection("http://h", secret_from="k", headers_from="h"))
    assert credentials == ("first-secret", {"X-Key": "header-secret", "X-N": "5"})
    masked = env.redactor.redact_text("first-secret header-secret")
    assert "first" not in masked and "header" not in masked


@pytest.mark.parametrize("value", ["x", "[]", "5", ""])
def test_headers_that_are_no_object_are_refused_and_not_shown(make_env, store, value):
    store.put("h", value)
    with pytest.raises(InvalidInput) as refused:
        make_env().credentials(Connection("http://h", headers_from="h"))
    assert refused.value.value == "h"


def test_a_key_that_is_missing_is_named(make_env):
    with pytest.raises(Exception, match="gone"):
        make_env().credentials(Connection("http://h", secret_from="gone"))


@pytest.mark.parametrize("value", ["first-secret\n", " first-secret\r\n", "\ufefffirst-secret\x00"])
def test_a_stored_secret_is_used_and_masked_without_what_surrounds_it(make_env, store, value):
    env = make_env()
    store.put("k", value)
    store.put("h", json.dumps({"X-Key": "header-secret\n"}))
    credentials = env.credentials(Connection("http://h", secret_from="k", headers_from="h"))
    assert credentials == ("first-secret", {"X-Key": "header-secret"})
    assert "first" not in env.redactor.redact_text("invalid key first-secret, closed")


def test_a_literal_secret_is_used_and_masked_without_what_surrounds_it(make_env):
    env = make_env({"platforms": [{
        "base_url": "http://h", "token": "first-secret\n", "headers": {"X-Key": "other-secret\n"},
    }]})
    connection = env.settings.platforms[0].connection
    assert (connection.secret, connection.headers) == ("first-secret", {"X-Key": "other-secret"})
    assert connection.secret_path == "platforms[0].token"
    masked = env.redactor.redact_text("first-secret other-secret")
    assert "first" not in masked and "other" not in masked
