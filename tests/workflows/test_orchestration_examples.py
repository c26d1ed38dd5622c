"""The pack's examples: each is loaded, and runs to the outcome that the guide promises."""
import json
import threading

import pytest
from fixtures.waiting import PATIENCE_SECONDS, until
from workflows.orchestrations import MODEL, Orchestrated, logs, statuses

from sandbox import status
from synthralos.orchestration import examples, orchestration_schema, prompts

NAMES = [
    "agentic-workflow", "map-reduce", "multi-source-research", "ping-pong",
    "planner-executor-reviewer", "self-correcting-coder", "tree-of-thoughts",
]


class Loaded(Orchestrated):
    """An example on a World; its roles are known by their prompts."""

    def load(self, name):
        self.example = examples.read(name)
        self.action("orchestration.load_examples", names=[name], model=MODEL)
        return self

    def role_of(self, system):
        return next(role["name"] for role in self.example["roles"]
                    if system.startswith(role["basePrompt"]))

    def play(self):
        """(execution, output) of its orchestration, with its input."""
        return self.run(self.name, input=self.example["input"])

    @property
    def name(self):
        return self.example["orchestrations"][0]["name"]

    def inputs(self, role):
        """What the role was given, each time."""
        return [json.loads(prompt) for prompt in self.prompts(role)]


@pytest.fixture
def flow(world):
    return Loaded(world)


def completed(*names):
    return dict.fromkeys(names, "completed")


def test_the_examples_are_these():
    assert examples.names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_example_names_no_model_and_defines_every_role_that_it_uses(name):
    example = examples.read(name)
    assert example["description"] and example["input"]
    for definition in example["orchestrations"]:
        normal = orchestration_schema.orchestration(definition)
        assert set(orchestration_schema.roles_used(normal)) == {
            role["name"] for role in example["roles"]
        }
        assert not any(
            step["fallback_models"] for step in orchestration_schema.every_step(normal["steps"])
        )
    for role in map(orchestration_schema.role, example["roles"]):
        assert role["model"] is None and not role["fallback_models"]


def test_a_role_is_the_same_in_every_example():
    seen = {}
    for name in NAMES:
        for role in examples.read(name)["roles"]:
            assert seen.setdefault(role["name"], role) == role


def test_all_are_loaded_and_loaded_again(flow):
    definitions = flow.action("orchestration.load_examples")["definitions"]
    assert all(definition["created"] for definition in definitions)
    assert len(flow.action("orchestration.list")["orchestrations"]) == len(NAMES)
    again = flow.action("orchestration.load_examples")
    assert again["summary"] == "0 created, 0 changed, %d were there" % len(definitions)
    flow.action("orchestration.update", name="Ping-Pong", updates={"tags": ["ours"]})
    flow.action("orchestration.load_examples", names=["ping-pong"])
    assert flow.action("orchestration.get", name="Ping-Pong")["orchestration"]["tags"] == ["ours"]
    again = flow.action("orchestration.load_examples", names=["ping-pong"], overwrite=True)
    assert again["summary"].startswith("0 created, 1 changed, ")
    changed = [definition["name"] for definition in again["definitions"] if definition["changed"]]
    assert changed == ["Ping-Pong"]
    there = flow.action("orchestration.get", name="Ping-Pong")["orchestration"]
    assert there["tags"] == ["pattern", "writing"] and there["version"] == 3
    assert (
        "is not an example" in flow.refused("orchestration.load_examples", names=["x"])["message"]
    )


@pytest.mark.parametrize("name", [name for name in NAMES if name != "agentic-workflow"])
def test_an_example_completes_against_a_sandbox_that_knows_nothing_of_it(world, name):
    flow = Loaded(world).load(name)
    world.box.reset()
    run, output = flow.play()
    assert run["status"] == "succeeded" and output["status"] == "completed", output["error"]
    # Its scores are as good as can be, so nothing is to be mended.
    assert set(statuses(output).values()) <= {"completed", "skipped"}


def test_planner_executor_reviewer(flow):
    flow.load("planner-executor-reviewer")
    flow.answers = {"Architect": "first this", "Coder": "<Login/>", "Code Reviewer": "good"}
    run, output = flow.play()
    assert output["output"] == {"plan": "first this", "code": "<Login/>", "review": "good"}
    assert statuses(output) == completed("Plan", "Generate Code", "Review")
    assert flow.inputs("Code Reviewer") == [{"code": "<Login/>", "requirements": "first this"}]


def test_a_review_without_code_is_skipped(flow):
    flow.load("planner-executor-reviewer")
    flow.answers = {"Architect": "first this", "Coder": "null"}
    run, output = flow.play()
    assert output["status"] == "completed" and logs(output)["Review"]["status"] == "skipped"


@pytest.mark.parametrize("name, maps, reduces", [
    ("multi-source-research",
     ["Search Academic Papers", "Search Technical Docs", "Search GitHub"], "Synthesize Findings"),
    ("map-reduce", ["Search A", "Search B", "Search C"], "Synthesize"),
])
def test_map_and_reduce(flow, name, maps, reduces):
    flow.load(name)
    flow.answers = {"Research Assistant": lambda prompt, number: "found: " + prompt}
    run, output = flow.play()
    assert [entry["step_name"] for entry in output["stepLogs"]] == maps + [reduces]
    assert set(statuses(output).values()) == {"completed"} and len(output["checkpoints"]) == 2
    (synthesizer_input,) = flow.inputs("Synthesizer")
    findings = synthesizer_input.get("sources", {}).values() or synthesizer_input["findings"]
    queries = flow.prompts("Research Assistant")
    assert sorted(findings) == sorted("found: " + prompt for prompt in queries)
    assert len(set(queries)) == 3


@pytest.mark.parametrize("passed, last", [(0.5, "completed"), (1, "skipped")])
def test_self_correcting_coder(flow, passed, last):
    flow.load("self-correcting-coder")
    flow.answers = {"Coder": "code", "Tester": {"passed": passed, "failures": ["empty list"]},
                    "Debugger": "mended"}
    run, output = flow.play()
    assert output["status"] == "completed"
    assert statuses(output) == dict(
        completed("Generate Code", "Run Tests"), **{"Fix Failures": last})
    if last == "completed":
        assert flow.inputs("Debugger") == [{"code": "code", "failures": ["empty list"]}]
        assert output["output"]["Fix Failures"] == "mended"


def test_a_tester_that_answers_in_prose_is_asked_again(flow):
    flow.load("self-correcting-coder")
    good = {"passed": 1, "failures": []}
    flow.answers["Tester"] = lambda prompt, number: good if number > 1 else "It all works!"
    run, output = flow.play()
    assert output["status"] == "completed" and logs(output)["Run Tests"]["attempts"] == 2


def test_tree_of_thoughts(flow):
    flow.load("tree-of-thoughts")
    flow.answers = {"Idea Generator": lambda prompt, number: json.loads(prompt)["line"],
                    "Evaluator": {"scores": [0.1, 0.9, 0.4], "reasons": ["a", "b", "c"]},
                    "Decision Maker": "the second"}
    run, output = flow.play()
    assert output["output"]["decision"] == "the second" and len(output["checkpoints"]) == 3
    (decision_input,) = flow.inputs("Decision Maker")
    assert decision_input["evaluation"]["scores"] == [0.1, 0.9, 0.4]
    assert len(set(decision_input["options"])) == 3


@pytest.mark.parametrize("scores, rounds", [([0.9], 0), ([0.5, 0.8], 1), ([0.5, 0.6, 0.9], 2)])
def test_ping_pong_ends_when_the_critic_is_content(flow, scores, rounds):
    flow.load("ping-pong")
    flow.answers = {
        "Critic": lambda prompt, number: {"score": scores[number - 1], "feedback": "shorter"},
        "Creator": lambda prompt, number: "draft %d" % number}
    run, output = flow.play()
    assert output["output"] == {"text": "draft %d" % (rounds + 1), "score": scores[-1]}
    last = logs(output)["Refine"]
    assert last["status"] == "completed" and last["rounds"] == rounds if rounds else (
        last["reason"] == "Condition not met")
    if rounds:
        assert flow.inputs("Creator")[1]["feedback"] == "shorter"
        assert flow.inputs("Creator")[1]["draft"] == "draft 1"


def test_ping_pong_has_five_rounds_at_most(flow):
    flow.load("ping-pong")
    flow.answers["Critic"] = {"score": 0.79, "feedback": "almost"}
    run, output = flow.play()
    assert run["status"] == "failed" and logs(output)["Refine"]["rounds"] == 5
    assert "did not hold after 5 rounds" in output["error"]["message"]
    assert len(flow.prompts("Critic")) == 6


PLAN = {"summary": "We write it.", "tasks": ["the numbers to call", "where the torches are"]}
EXECUTED = ["Execute 1", "Execute 2", "Execute 3"]


@pytest.fixture
def agentic(flow):
    flow.load("agentic-workflow")
    flow.answers = {"Planner": PLAN, "Plan Critic": {"score": 0.7, "risks": ["nobody reads it"]},
                    "Executor": lambda prompt, number: json.loads(prompt)["task"].upper(),
                    "Verifier": {"score": 0.9, "problems": []}}
    return flow


def asking(flow):
    handle = flow.start(flow.name, input=flow.example["input"])
    handle.wait_for("paused")
    return handle


def run_answered(flow, approved):
    """(execution, its status) of a run that was approved or not."""
    handle = asking(flow)
    flow.action("approval.answer", execution_id=handle.id, approved=approved)
    run = handle.wait(PATIENCE_SECONDS)
    return run, flow.status(handle.id)


def test_agentic_workflow(agentic):
    handle = asking(agentic)
    run_status = agentic.status(handle.id)
    assert run_status["status"] == "waiting" and run_status["state"] == "CRITIQUED"
    assert run_status["waiting"]["question"] == (
        "Approve: We write it. The critic gives this plan 0.7. May it be carried out?")
    agentic.action("approval.answer", execution_id=handle.id, approved=True)
    output = handle.wait(PATIENCE_SECONDS)["result"]["output"]
    assert output["status"] == "completed", output["error"]
    assert output["output"] == {
        "state": "COMPLETED", "plan": PLAN,
        "critique": {"score": 0.7, "risks": ["nobody reads it"]},
        "results": ["THE NUMBERS TO CALL", "WHERE THE TORCHES ARE", None], "mended": None,
        "verification": {"score": 0.9, "problems": []}}
    assert statuses(output) == dict(
        completed("Plan", "Critique", "Approve", "Execute 1", "Execute 2", "Verify[1]/Check",
                  "Verify"), **{"Execute 3": "skipped", "Verify[1]/Mend": "skipped"})
    assert agentic.inputs("Executor")[0]["risks"] == ["nobody reads it"]
    assert agentic.status(handle.id)["state"] == "COMPLETED"


def test_each_step_of_it_says_in_which_state_the_run_is(agentic):
    """The states that a run goes through, as its checkpoints have them."""
    from synthralos.core import sealing

    run, run_status = run_answered(agentic, True)
    states = []
    for key in run_status["checkpoints"]:
        state = sealing.unseal(agentic.world.local.keys.get(key))
        states.append(state["context"].get("state", {"v": None})["v"])
    assert states == [None, "PLANNED", "CRITIQUED", "APPROVED", "EXECUTING"]


def test_a_plan_that_a_person_refuses_is_not_carried_out(agentic):
    run, run_status = run_answered(agentic, False)
    assert run["status"] == "succeeded" and run_status["status"] == "refused"
    assert run_status["state"] == "REFUSED" and agentic.prompts("Executor") == []


def test_what_the_verifier_does_not_accept_is_mended(agentic):
    agentic.answers["Verifier"] = lambda prompt, number: {
        "score": 0.5 * number, "problems": ["too long"]}
    run, run_status = run_answered(agentic, True)
    assert run_status["status"] == "completed" and run_status["state"] == "COMPLETED"
    assert agentic.inputs("Executor")[-1]["problems"] == ["too long"]
    assert agentic.inputs("Verifier")[-1]["mended"].startswith("MEND")


def test_what_is_never_accepted_has_failed(agentic):
    agentic.answers["Verifier"] = {"score": 0.2, "problems": ["wrong"]}
    run, run_status = run_answered(agentic, True)
    assert run["status"] == run_status["status"] == "failed" and run_status["state"] == "FAILED"
    assert "did not hold after 3 rounds" in run_status["error"]["message"]


def test_a_step_that_fails_leaves_the_state_failed(agentic):
    agentic.answers["Planner"] = status(400)
    run, _ = agentic.play()
    run_status = agentic.status(run["id"])
    assert run["status"] == "failed" and run_status["state"] == "FAILED"
    assert logs(run_status)["Critique"]["status"] == "skipped"


def test_its_state_while_it_has_none(agentic):
    let_go = threading.Event()
    agentic.answers["Planner"] = lambda prompt, number: let_go.wait(PATIENCE_SECONDS) and PLAN
    handle = agentic.start(agentic.name, input=agentic.example["input"])
    until(lambda: agentic.prompts("Planner"), "the planner is asked")
    assert agentic.status(handle.id)["state"] == "CREATED"
    agentic.action("orchestration.cancel", execution_id=handle.id)
    let_go.set()
    handle.wait(PATIENCE_SECONDS)
    assert agentic.status(handle.id)["state"] == "CANCELLED"


def test_the_sandbox_knows_the_words_with_which_the_pack_asks_for_json():
    from sandbox import schemas

    schema = {"type": "object", "required": ["n"], "properties": {"n": {"enum": [7]}}}
    role = orchestration_schema.role({"name": "r", "base_prompt": "p"})
    contents = [message["content"] for message in prompts.messages(role, "x", schema)]
    assert json.loads(schemas.answer(contents)) == {"n": 7}
