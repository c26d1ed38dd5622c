from synthralos.telemetry import log


def test_a_line_has_an_event_and_its_facts(capsys):
    log.line("attempt", number=1, target="llm:a/b", status=None, seconds=0.12345)
    assert capsys.readouterr().out == "attempt number=1 target=llm:a/b seconds=0.12\n"
