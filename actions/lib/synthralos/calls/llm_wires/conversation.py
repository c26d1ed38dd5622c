"""A conversation as most APIs want it: a system prompt, then turns of user and assistant.

What OpenAI's messages allow and these APIs do not is settled here once: instructions in the middle,
several messages of one role, results of tools apart from the turn, blank texts, ids of any form.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Optional, Union

from synthralos.calls.llm_wires import call_ids, media
from synthralos.calls.llm_wires.call_arguments import parse_arguments
from synthralos.calls.llm_wires.call_ids import IdRule
from synthralos.calls.llm_wires.chat_messages import GO_ON, Message, ToolCall, text_of
from synthralos.calls.llm_wires.wire import CannotCarry, WireRequest

USER, ASSISTANT = "user", "assistant"
_SYSTEM_ROLES = ("system", "developer")
# Where an API requires words that the caller did not write.
_NO_TEXT = "(no text)"
_OPENING = "(The conversation begins with your answer.)"


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Image:
    """A picture: its address, or its data.

    :ivar path: its place in the request, for messages.
    """

    url: str
    path: str
    detail: Optional[str] = None

    @property
    def data(self) -> Optional[media.Media]:
        return media.parse_data_url(self.url)


@dataclass(frozen=True)
class File:
    """A file: its data, or its id at one provider."""

    path: str
    data: Optional[media.Media] = None
    file_id: Optional[str] = None
    filename: Optional[str] = None


@dataclass(frozen=True)
class Audio:
    """Audio in base64; `format` is wav or mp3."""

    data: str
    format: str
    path: str


@dataclass(frozen=True)
class Call:
    """A call of a tool, with what its provider wants back with it."""

    id: str
    name: str
    arguments: dict[str, Any]
    extra: dict[str, Any] = field(default_factory=dict)

    def thoughts(self, provider: str) -> list[dict[str, Any]]:
        """Return what the model thought before it made the call, as its provider has it."""
        thoughts = self.extra.get(provider, {}).get("thinking")
        is_list = isinstance(thoughts, list)
        return [item for item in thoughts if isinstance(item, dict)] if is_list else []


@dataclass(frozen=True)
class Result:
    """The result of a call; without parts if it was blank."""

    id: str
    name: str
    parts: tuple[Union[Text, Image], ...]

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, Text))


Part = Union[Text, Image, File, Audio, Call, Result]


@dataclass
class Turn:
    """What one side says until the other does; results of tools come first."""

    role: str
    parts: list[Part]

    @property
    def calls(self) -> list[Call]:
        return [part for part in self.parts if isinstance(part, Call)]

    @property
    def results(self) -> list[Result]:
        return [part for part in self.parts if isinstance(part, Result)]


@dataclass
class Conversation:
    """The turns alternate and begin with the user's.

    :ivar system: texts of the system prompt.
    """

    system: list[str]
    turns: list[Turn]

    @property
    def ends_with_assistant(self) -> bool:
        return self.turns[-1].role == ASSISTANT

    @property
    def tool_names(self) -> list[str]:
        """The tools that were called, each once."""
        return list(dict.fromkeys(call.name for turn in self.turns for call in turn.calls))

    @property
    def open_turns(self) -> list[Turn]:
        """The turns since the user last said something: those of the answer in progress."""
        start = 0
        for index, turn in enumerate(self.turns):
            if turn.role == USER and len(turn.results) < len(turn.parts):
                start = index
        return self.turns[start:]

    def let_user_end(self, wire_request: WireRequest) -> None:
        """Ask to go on with the last answer, for a model that continues no turn of its own."""
        if self.ends_with_assistant:
            self.turns.append(Turn(USER, [Text(GO_ON)]))
            wire_request.leave_out(
                "messages", "the model continues no answer of its own; it was asked to go on"
            )


def build(messages: Sequence[Message], rule: IdRule, wire_request: WireRequest) -> Conversation:
    """Return the conversation; what it does not say as it was written is added to `adapted`."""
    builder = _Builder(messages, rule, wire_request)
    return builder.build()


class _Builder:
    def __init__(
        self, messages: Sequence[Message], rule: IdRule, wire_request: WireRequest
    ) -> None:
        self._messages, self._wire_request = messages, wire_request
        self._ids = call_ids.fit(messages, rule)
        self._turns: list[Turn] = []
        self._names: dict[str, str] = {}
        self._caller = 0

    def build(self) -> Conversation:
        leading = 0
        while leading < len(self._messages) and self._is_system(leading):
            leading += 1
        system = [text_of(message.get("content")) for message in self._messages[:leading]]
        system = [text for text in system if text.strip()]
        for index in range(leading, len(self._messages)):
            self._add(index)
        if not self._turns:
            # The API requires a turn of the user; the last instruction is what was asked.
            self._turns = [Turn(USER, [Text(system.pop() if system else _NO_TEXT)])]
        if self._turns[0].role == ASSISTANT:
            self._turns.insert(0, Turn(USER, [Text(_OPENING)]))
            self._wire_request.leave_out(
                "messages", "the API wants the user to begin; words that say so were added"
            )
        for turn in self._turns:
            turn.parts.sort(key=lambda part: not isinstance(part, Result))
        return Conversation(system, self._turns)

    def _is_system(self, index: int) -> bool:
        return self._messages[index]["role"] in _SYSTEM_ROLES

    def _add(self, index: int) -> None:
        message, path = self._messages[index], "messages[%d]" % index
        if message.get("name"):
            self._wire_request.leave_out(path + ".name", "the API has no names of participants")
        if self._is_system(index):
            self._add_instruction(message, path)
        elif message["role"] == "tool":
            self._append(USER, [self._result(message, path)])
        elif message["role"] == ASSISTANT:
            self._append(ASSISTANT, self._assistant_parts(index))
        else:
            self._append(USER, self._content_parts(message, path) or [Text(_NO_TEXT)])

    def _add_instruction(self, message: Message, path: str) -> None:
        text = text_of(message.get("content"))
        if text.strip():
            self._append(USER, [Text("<system>\n%s\n</system>" % text)])
            self._wire_request.send_as(
                path + ".role", USER, "the API has instructions at the beginning only"
            )

    def _assistant_parts(self, index: int) -> list[Part]:
        message = self._messages[index]
        parts = self._content_parts(message, "messages[%d]" % index)
        refusal = message.get("refusal") or ""
        if refusal.strip():
            parts.append(Text(refusal))
        self._caller = index
        self._names = {}
        for call in message.get("tool_calls") or ():
            parts.append(self._call(index, call))
            self._names[call["id"]] = call["function"]["name"]
        return parts

    def _call(self, index: int, call: ToolCall) -> Call:
        function = call["function"]
        return Call(
            self._ids[index, call["id"]],
            function["name"],
            parse_arguments(function["arguments"]),
            call.get("extra_content") or {},
        )

    def _result(self, message: Message, path: str) -> Result:
        call_id = message["tool_call_id"]
        parts = [
            part for part in self._content_parts(message, path) if isinstance(part, (Text, Image))
        ]
        fitted = self._ids.get((self._caller, call_id), call_id)
        return Result(fitted, self._names.get(call_id, "tool"), tuple(parts))

    def _content_parts(self, message: Message, path: str) -> list[Part]:
        content = message.get("content")
        if isinstance(content, str):
            return [Text(content)] if content.strip() else []
        parts = []
        for index, raw in enumerate(content or []):
            part = _part(raw, "%s.content[%d]" % (path, index))
            if not isinstance(part, Text) or part.text.strip():
                parts.append(part)
        return parts

    def _append(self, role: str, parts: list[Part]) -> None:
        if not parts:
            return
        if self._turns and self._turns[-1].role == role:
            self._turns[-1].parts.extend(parts)
        else:
            self._turns.append(Turn(role, parts))


def _part(raw: dict[str, Any], path: str) -> Part:
    kind = raw.get("type")
    if kind == "image_url":
        image = raw["image_url"]
        return Image(image["url"], path, image.get("detail"))
    if kind == "file":
        file = raw["file"]
        data = media.parse_data_url(file["file_data"]) if "file_data" in file else None
        return File(path, data, file.get("file_id"), file.get("filename"))
    if kind == "input_audio":
        return Audio(raw["input_audio"]["data"], raw["input_audio"]["format"], path)
    if kind in ("text", "refusal"):
        return Text(raw[kind])
    raise CannotCarry(path, "the wire cannot carry a part of type %s" % kind)
