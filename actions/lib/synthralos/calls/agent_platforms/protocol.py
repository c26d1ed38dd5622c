"""What an agent platform can do, in words that all of their APIs share.

A *run* is one piece of work of an agent at its platform: a run on a thread, a task, a response. It
is started once and then joined, as often as it takes. A failed agent is a success of HTTP: its
failure is in the RunState that a call returns. CallError is raised only when the platform itself
could not be asked, or refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Optional, Protocol, runtime_checkable

from synthralos.calls.http import CallNotMade
from synthralos.core import failures
from synthralos.core.errors import InvalidInput
from synthralos.core.failures import Failure
from synthralos.core.redaction import Redactor
from synthralos.core.sanitize import sanitize_line

RUNNING, COMPLETED, FAILED = "running", "completed", "failed"
# The agent waits for an answer to `question`.
ASKING = "asking"
# The platform does not know of the run: not yet, no longer, or it never arrived.
UNKNOWN = "unknown"
STATUSES = (RUNNING, COMPLETED, FAILED, ASKING, UNKNOWN)

# What a Question is about.
INPUT, AUTHORIZATION = "input", "authorization"

MAX_PROGRESS_CHARS = 200
MAX_ID_CHARS = 4096
_NO_SECRETS = Redactor()


@dataclass(frozen=True)
class Handle:
    """What identifies a run at its platform; the ids are the platform's own, never names of ours.

    :ivar api: of the platform.
    :ivar platform: the name of the platform in the configuration.
    :ivar agent: what the agent is called there.
    :ivar ids: {name: id}, such as thread and run, task and context, or response.
    """

    api: str
    platform: str
    agent: str
    ids: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Return the handle as a JSON value."""
        return {
            "api": self.api, "platform": self.platform, "agent": self.agent, "ids": dict(self.ids)
        }

    @classmethod
    def from_dict(cls, data: Any) -> "Handle":
        """Return the handle that `as_dict` made into `data`.

        :raises InvalidInput: it is not one.
        """
        hint = "Use the handle that the start of the run returned"
        ids = data.get("ids") if isinstance(data, dict) else None
        if not isinstance(ids, dict) or not ids:
            raise InvalidInput("handle", data, "has no ids", hint)
        texts = [data.get(name) for name in ("api", "platform", "agent")] + list(ids.values())
        if not all(is_id(text) for text in texts):
            raise InvalidInput("handle", data, "must consist of texts that are not blank", hint)
        return cls(data["api"], data["platform"], data["agent"], dict(ids))

    @classmethod
    def restore(cls, data: Any) -> "Optional[Handle]":
        """Return the handle that `as_dict` made into `data`, or None if it is not one."""
        try:
            return cls.from_dict(data)
        except InvalidInput:
            return None

    def with_ids(self, **ids: str) -> "Handle":
        """Return the handle with further ids."""
        return replace(self, ids=dict(self.ids, **ids))


@dataclass(frozen=True)
class Question:
    """What an agent asks. Its text is the agent's: data, for people only.

    :ivar kind: INPUT, or AUTHORIZATION, which a person settles elsewhere: no credential is sent.
    :ivar id: the platform's, or an empty text where it has none.
    :ivar run: the platform's id of the run that asks, where each answer begins another one. A step
        that asks the same once more, because the answer was not good enough, does so under one id.
    """

    text: str
    kind: str = INPUT
    id: str = ""
    run: str = ""


@dataclass(frozen=True)
class RunState:
    """What a platform says of a run.

    :ivar status: one of STATUSES.
    :ivar output: of a completed run, as it came: it may still be blank or not match a schema.
    :ivar failure: of a failed run.
    :ivar question: of a run that asks.
    :ivar progress: what a running agent says of itself, sanitized, on one line.
    :ivar metadata: further facts of the platform, such as `usage`.
    """

    status: str
    handle: Handle
    output: Any = None
    failure: Optional[Failure] = None
    question: Optional[Question] = None
    progress: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_ended(self) -> bool:
        """Whether the run can have no further effect by itself."""
        return self.status in (COMPLETED, FAILED)

    @property
    def may_be_live(self) -> bool:
        """Whether the run may still have effects."""
        return self.status in (RUNNING, UNKNOWN)


@dataclass(frozen=True)
class RunDetails:
    """A run that anybody may have started, as its platform describes it.

    :ivar state: of the run; with UNKNOWN the other facts are empty.
    :ivar agents: the names by which the platform knows its agent.
    :ivar query: the text that its user asked, or None if the platform does not say.
    :ivar instructions: what the agent was told to be, where that is part of each run.
    :ivar metadata: what whoever started the run has stored with it.
    :ivar keys: ids that may be the idempotency key of its start.
    :ivar started_at: when it began, or if that is unknown, when it ended, in seconds since the
        epoch; None if neither is known.
    :ivar is_superseded: whether a later run has begun on its thread.
    """

    state: RunState
    agents: tuple[str, ...] = ()
    query: Optional[str] = None
    instructions: Any = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    started_at: Optional[float] = None
    is_superseded: bool = False


@dataclass(frozen=True)
class Capabilities:
    """What an API can do.

    :ivar chooses_run_id: whether a run can be found by an id that is known before its start, so
        that a lost reply loses nothing.
    :ivar joins: whether a run can be asked for after its start.
    :ivar cancels: whether a run can be cancelled.
    :ivar checkpoint_id: which of the ids of a run finds the checkpoint that it left, where a failed
        run continues where it failed; else an empty text.
    :ivar answers_questions: whether an agent's question can be answered.
    """

    chooses_run_id: bool = False
    joins: bool = False
    cancels: bool = False
    checkpoint_id: str = ""
    answers_questions: bool = False

    @property
    def resumes_checkpoint(self) -> bool:
        """Whether a failed run continues where it failed."""
        return bool(self.checkpoint_id)


@dataclass(frozen=True)
class Checkpoint:
    """Where an agent is to go on, instead of starting over.

    :ivar handle: of the run that left it.
    :ivar id: the platform's id of it; None for the last one of the run.
    :ivar state: values that replace those of the state before the run goes on; None for none.
    :ivar as_node: the step of the agent that counts as their author, where the API has such.
    """

    handle: Handle
    id: Optional[str] = None
    state: Optional[Mapping[str, Any]] = None
    as_node: Optional[str] = None


@dataclass(frozen=True)
class AgentRequest:
    """What an agent is to do.

    :ivar agent: what the agent is called at the platform.
    :ivar query: the caller's text.
    :ivar idempotency_key: names this start and no other. The same bytes have the same key: whoever
        asks for something else uses another one.
    :ivar config: the agent's configuration and the caller's; each API takes what it can express.
    :ivar schema: a JSON schema of the output, or None.
    :ivar context: facts for the platform's own records.
    :ivar agent_type, execute_path, replay_of: of the API `synthralos`; `replay_of` is the id of the
        execution to replay instead.
    :ivar checkpoint: where to go on, or None to start; see AgentPlatform.resume.
    """

    agent: str
    query: str
    idempotency_key: str
    config: Mapping[str, Any] = field(default_factory=dict)
    schema: Optional[dict[str, Any]] = None
    context: Mapping[str, str] = field(default_factory=dict)
    agent_type: str = "simple"
    execute_path: Optional[str] = None
    replay_of: Optional[str] = None
    checkpoint: Optional[Checkpoint] = None


@dataclass(frozen=True)
class CheckResult:
    """What a check of a platform found, in words, and what to do about it.

    :ivar is_up: whether the platform works, whatever it said about the address or the credential.
    """

    passed: bool
    details: str
    hint: Optional[str] = None
    is_up: bool = True


class NotSupported(CallNotMade):
    """The API cannot do what was requested."""


class NoCheckpoint(CallNotMade):
    """The run left nothing to continue from: it has to be started again."""


class AgentPlatform(Protocol):
    """One platform, through its API.

    `seconds` is the limit of a whole call, however many requests it takes. Nothing waits between
    requests: whoever polls decides when.
    """

    capabilities: Capabilities

    def handle_for(self, request: AgentRequest) -> Optional[Handle]:
        """Return the handle by which `join` finds the run before its start, or the call of
        `resume`, has returned; None unless the ids are known by then.
        """

    def start(self, request: AgentRequest, seconds: float) -> RunState:
        """Start a run, or join the one that was started under the same key.

        :raises CallError: it was refused, or the reply was lost: `evidence.sent` is then not false.
        """

    def join(self, handle: Handle, seconds: float) -> RunState:
        """Return the state of a run, asked for once."""

    def cancel(self, handle: Handle, seconds: float) -> RunState:
        """Cancel a run and return its state: the cancellation is confirmed where it has ended."""

    def resume(self, request: AgentRequest, checkpoint: Checkpoint, seconds: float) -> RunState:
        """Continue a run that has ended from its checkpoint; the query is not sent again.

        :returns: the state of the new run; ASKING, without a new run, where a question is open.
        :raises NoCheckpoint: there is none.
        :raises NotSupported: the API has none.
        """

    def answer(
        self, handle: Handle, question: Question, answer: str, key: str, seconds: float
    ) -> RunState:
        """Answer the question that the agent asks, and return the state of the run that continues.

        :param key: the idempotency key of this answer.
        :returns: the state as it is, unanswered, where the agent does not ask this any more.
        :raises NotSupported: the API knows no questions.
        """

    def check(self, agent: Optional[str], seconds: float) -> CheckResult:
        """Check address and credential, at no cost and without a change.

        :param agent: what an agent is called there, where the check is about one.
        :raises CallError: the platform could not be reached.
        """


@runtime_checkable
class CheckpointKeeper(Protocol):
    """A platform whose checkpoints can be named and gone back to."""

    def checkpoint(self, handle: Handle, seconds: float) -> Checkpoint:
        """Return the last checkpoint of a run, with its id.

        :raises NoCheckpoint: there is none.
        """

    def restore(self, checkpoint: Checkpoint, seconds: float) -> None:
        """Make a checkpoint the one from which the next run is continued.

        :raises CallError: there is no such checkpoint, or a run is under way.
        """


@runtime_checkable
class RunSource(Protocol):
    """A platform that describes runs which others have started there."""

    def describe(self, handle: Handle, seconds: float) -> RunDetails:
        """Return what the platform says of a run.

        :param handle: its ids; `agent` may be blank unless the API has an address for each agent.
        :raises CallError: the platform could not be asked, or refused.
        """

    def is_agent(self, details: RunDetails, agent: str, config: Mapping[str, Any]) -> bool:
        """Return whether a run is one of the agent that is called `agent` at the platform.

        :param config: of the agent, from the pack's configuration.
        """


def is_id(value: Any) -> bool:
    """Return whether a value can be an id of a platform. They are opaque: any text that is not
    blank, up to MAX_ID_CHARS. A part of a path that consists of dots would lead to another one.
    """
    return (
        isinstance(value, str) and
        bool(value.strip()) and
        value not in (".", "..") and
        len(value) <= MAX_ID_CHARS
    )


def keys_of(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the idempotency key that a start of the pack stores with its run, if there is one."""
    key = metadata.get("idempotency_key")
    return (key,) if isinstance(key, str) else ()


def progress_line(text: Any) -> str:
    """Return what an agent says of itself, as one harmless line."""
    return sanitize_line(text, _NO_SECRETS, MAX_PROGRESS_CHARS) if isinstance(text, str) else ""


def not_supported(api: str, operation: str) -> NotSupported:
    """Return the error for what an API cannot do."""
    message = "platforms with `api: %s` cannot %s" % (api, operation)
    return NotSupported(failures.make_failure("configuration", message))
