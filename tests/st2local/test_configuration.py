"""Where the command line finds a config."""
import sys
import types

import pytest
from places import FIXTURES

from st2local import ConfigError, configuration
from st2local.pack import Pack


@pytest.fixture
def find(tmp_path, monkeypatch):
    monkeypatch.delenv("ST2LOCAL_CONFIG", raising=False)

    def find_one(explicit_path=None, say=lambda text: None):
        with configuration.open_config(Pack(FIXTURES), str(tmp_path), explicit_path, say) as (
            config,
            _,
        ):
            return config

    return find_one


@pytest.fixture
def file(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return str(path)

    return write


def test_the_order(find, file, monkeypatch):
    file("configs/fixture.yaml", "plain: usual")
    assert find() == {"plain": "usual"}
    monkeypatch.setenv("ST2LOCAL_CONFIG", file("environment.yaml", "plain: environment"))
    assert find() == {"plain": "environment"}
    assert find(file("given.yaml", "plain: given")) == {"plain": "given"}
    assert find(file("empty.yaml", "")) == {}


def test_a_file_that_is_not_there(find):
    with pytest.raises(ConfigError, match="file not found"):
        find("/nowhere/config.yaml")


def test_the_sandbox(find, monkeypatch):
    class Sandbox:
        base_url = "http://127.0.0.1:1"
        open = False

        def __enter__(self):
            Sandbox.open = True
            return self

        def __exit__(self, *_):
            Sandbox.open = False

        def pack_config(self):
            assert Sandbox.open
            return {"plain": "sandbox"}

    monkeypatch.setitem(sys.modules, "sandbox", types.SimpleNamespace(Sandbox=Sandbox))
    messages = []
    assert find(say=messages.append) == {"plain": "sandbox"}
    assert messages == ["no configuration found: using the sandbox at http://127.0.0.1:1"]
    assert not Sandbox.open


def test_without_a_sandbox(find, monkeypatch):
    monkeypatch.setitem(sys.modules, "sandbox", None)
    assert find() == {}
