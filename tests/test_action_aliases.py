import pathlib

import yaml
from st2tests.base import BaseActionAliasTestCase

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "aliases"
RUN, TICKET = "5f0c000000000000000000aa", "T0123456789ab"
# {alias: [(what a person says, the parameters in it)]}; what it leaves to a default is not listed.
COMMANDS = {
    "recover_agent": [
        ("recover agent trainer_01", {"agent_id": "trainer_01", "original_query": "@last"}),
        (
            "recover agent trainer_01 Summarise the report, in three lines",
            {"agent_id": "trainer_01", "original_query": "Summarise the report, in three lines"},
        ),
        (
            "recover agent a/b:c {{ foo }} <% ctx() %>",
            {"agent_id": "a/b:c", "original_query": "{{ foo }} <% ctx() %>"},
        ),
    ],
    "retry_run": [
        ("retry run " + RUN, {"execution_id": RUN}),
        ("retry run %s model=gpt-4o" % RUN, {"execution_id": RUN, "model": "gpt-4o"}),
    ],
    "answer_run": [
        (
            "answer run %s with account 12, with {{ x }}" % RUN,
            {"execution_id": RUN, "answer": "account 12, with {{ x }}"},
        ),
    ],
    "redrive_list": [
        ("redrive list", {"since": "24h"}),
        ("redrive list 2h causes=rate_limit", {"since": "2h", "causes": "rate_limit"}),
    ],
    "redrive": [
        ("redrive runs since 2h", {"since": "2h"}),
        (
            "redrive runs since 2026-01-31T12:00:00Z per_minute=5",
            {"since": "2026-01-31T12:00:00Z", "per_minute": "5"},
        ),
    ],
    "reroute_run": [
        (
            "reroute run %s to eu-west-1" % RUN,
            {"execution_id": RUN, "region": "eu-west-1"},
        ),
    ],
    "health": [
        ("agents health", {}),
        ("agent health trainer_01", {"agent_id": "trainer_01"}),
    ],
    "runbooks": [("runbooks", {})],
    "validate_runbooks": [("runbooks validate", {})],
    "explain_runbook": [
        (
            "runbook explain HostDiskFull instance:web-1:9100 mountpoint:/var",
            {"alert_labels": "HostDiskFull instance:web-1:9100 mountpoint:/var"},
        ),
    ],
    "explain_failure": [
        (
            "agents explain Error code: 429 - {'error': {'code': 'insufficient_quota'}}",
            {"failure": "Error code: 429 - {'error': {'code': 'insufficient_quota'}}"},
        ),
    ],
    "tickets": [
        ("tickets", {}),
        ("tickets of trainer_01", {"subject": "trainer_01"}),
        ("tickets status=open", {"status": "open"}),
    ],
    "take_ticket": [("take ticket " + TICKET, {"ticket_id": TICKET})],
    "resolve_ticket": [
        (
            "resolve ticket %s because the disk was full" % TICKET,
            {"ticket_id": TICKET, "resolution": "the disk was full"},
        ),
    ],
    "pause_agent": [
        (
            "pause agent trainer_01 because it is being moved",
            {"agent_id": "trainer_01", "reason": "it is being moved"},
        ),
        (
            "pause agent trainer_01 because of me seconds=600",
            {"agent_id": "trainer_01", "reason": "of me", "seconds": "600"},
        ),
    ],
    "open_breaker": [
        ("open breaker llm:openai/gpt-4", {"target": "llm:openai/gpt-4"}),
        ("open breaker llm:openai/gpt-4 seconds=600",
         {"target": "llm:openai/gpt-4", "seconds": "600"}),
    ],
    "close_breaker": [("close breaker route:openai/us", {"target": "route:openai/us"})],
    "release_breaker": [("release breaker route:openai/us", {"target": "route:openai/us"})],
    "resume_agent": [("resume agent trainer_01", {"agent_id": "trainer_01"})],
    "mode": [("agents mode", {}), ("runbook disk-full mode", {"runbook": "disk-full"})],
    "set_mode": [
        ("agents mode approve", {"mode": "approve"}),
        ("runbook disk-full mode act", {"mode": "act", "runbook": "disk-full"}),
    ],
    # Whoever has forgotten the id is shown what there is.
    "approvals": [("approvals", {}), ("approve run", {}), ("refuse run", {})],
    "approve_run": [
        ("approve run " + RUN, {"execution_id": RUN}),
        ("approve run %s-2" % RUN, {"execution_id": RUN + "-2"}),
    ],
    "refuse_run": [("refuse run " + RUN, {"execution_id": RUN})],
}


def _formats(name):
    return yaml.safe_load((FOLDER / (name + ".yaml")).read_text(encoding="utf-8"))["formats"]


class ActionAliasesTest(BaseActionAliasTestCase):
    action_alias_name = "recover_agent"

    def test_every_alias_has_a_command_here(self):
        self.assertEqual({path.stem for path in FOLDER.glob("*.yaml")}, set(COMMANDS))

    def test_each_command_matches_one_format_of_the_pack_and_gives_its_parameters(self):
        every = [format_string for name in COMMANDS for format_string in _formats(name)]
        for name, commands in COMMANDS.items():
            self.action_alias_db = self._get_action_alias_db_by_name(name=name)
            for command, parameters in commands:
                with self.subTest(command=command):
                    self.assertCommandMatchesExactlyOneFormatString(every, command)
                    self.assertExtractedParametersMatch(
                        self._matching(command), command, parameters
                    )

    def _matching(self, command):
        """The format of the alias that the command matches."""
        for format_string in self.action_alias_db.get_format_strings():
            try:
                self.assertCommandMatchesExactlyOneFormatString([format_string], command)
            except AssertionError:
                continue
            return format_string
        raise AssertionError("no format of this alias matches %r" % command)
