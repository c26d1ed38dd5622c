import json
import os
import stat

import pytest

from synthralos.core.errors import InvalidInput
from synthralos.telemetry import run_log
from synthralos.telemetry.run_log import LogConfig

NOW = 1_700_000_000.25


def test_a_line_has_an_event_and_its_facts(capsys):
    run_log.emit("attempt", number=1, target="llm:a/b", status=None, seconds=0.12345)
    assert capsys.readouterr().out == "attempt number=1 target=llm:a/b seconds=0.12\n"


def test_each_line_says_whose_it_is(capsys):
    with run_log.output_to():
        run_log.bind(run="5f0c", agent=None)
        run_log.emit("skipped", target="llm:a/b", seconds=3.0)
        run_log.bind(run="5f0d", agent="trainer_01")
        run_log.emit("step", action="retry_execution")
    run_log.emit("step", action="retry_execution")
    assert capsys.readouterr().out.splitlines() == [
        "skipped target=llm:a/b seconds=3.0 run=5f0c",
        "step action=retry_execution run=5f0d agent=trainer_01",
        "step action=retry_execution",
    ]


def test_text_and_secrets_are_not_shown(capsys):
    with run_log.output_to(redact=lambda text: text.replace("hunter22", "********")):
        run_log.emit("plan_refused", number=1, field="what the model\nsaid")
        run_log.emit("plan_refused", number=2, field="plan.steps[0].hunter22")
    assert capsys.readouterr().out.splitlines() == [
        "plan_refused number=1 field=(text)",
        "plan_refused number=2 field=plan.steps[0].********",
    ]


def test_json_lines(capsys):
    with run_log.output_to(LogConfig("json"), now=lambda: NOW):
        run_log.bind(run="5f0c")
        run_log.emit("attempt", number=1, outcome="ok", seconds=0.5)
    assert json.loads(capsys.readouterr().out) == {
        "time": "2023-11-14T22:13:20.250Z", "event": "attempt", "number": 1, "outcome": "ok",
        "seconds": 0.5, "run": "5f0c",
    }


def test_a_file_gets_json_beside_the_lines_for_people(tmp_path, capsys):
    file = tmp_path / "synthralos.log"
    for _ in range(2):
        with run_log.output_to(
            LogConfig("text", str(file)), redact=lambda text: text.replace("hunter22", "*")
        ):
            run_log.emit("step", action="hunter22")
    assert [json.loads(line)["action"] for line in file.read_text().splitlines()] == ["*", "*"]
    assert capsys.readouterr().out == "step action=*\n" * 2
    assert stat.S_IMODE(os.stat(file).st_mode) & 0o007 == 0


def test_a_file_that_cannot_be_written_ends_nothing_and_is_said_once(tmp_path, capsys):
    with run_log.output_to(LogConfig("text", str(tmp_path / "none" / "x.log"))):
        run_log.emit("step", action="a")
        run_log.emit("step", action="b")
    line = capsys.readouterr()
    assert line.out == "step action=a\nstep action=b\n"
    assert line.err == "logs.file cannot be written: FileNotFoundError\n"


@pytest.mark.parametrize("entry, field", (
    ({"format": "xml"}, "logs.format"), ({"file": "synthralos.log"}, "logs.file"),
    ({"file": 7}, "logs.file"),
))
def test_what_is_configured_wrongly_is_refused(entry, field):
    with pytest.raises(InvalidInput) as refused:
        LogConfig.from_config(entry)
    assert refused.value.field == field


def test_defaults():
    assert LogConfig.from_config({}) == LogConfig("text", None)
