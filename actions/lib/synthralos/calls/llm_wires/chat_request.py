"""A request to a model, in the shape of OpenAI's chat completions: the one that callers write.

Every wire translates from it, and every answer comes back in terms of it.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Optional, TypedDict

from synthralos.calls.llm_wires import chat_messages, chat_parameters
from synthralos.calls.llm_wires.chat_messages import Message
from synthralos.core.errors import InvalidInput

# Beside the parameters, which may stand here or in `parameters`.
_OWN_FIELDS = ("model", "provider", "prompt", "messages", "system", "parameters")
# Of the caller's trace, which the run has joined already.
_TRACE_FIELDS = ("traceparent", "tracestate")


class FunctionDefinition(TypedDict, total=False):
    """A function that the model may call; `parameters` is the JSON schema of its arguments."""

    name: str
    description: str
    parameters: dict[str, Any]
    strict: bool


@dataclass(frozen=True)
class ResponseSchema:
    """The JSON schema that an answer has to match.

    :ivar strict: what the caller set, or None.
    """

    name: str
    schema: dict[str, Any]
    description: Optional[str] = None
    strict: Optional[bool] = None


@dataclass(frozen=True)
class ChatRequest:
    """A request that has been checked, or that the pack wrote itself.

    :ivar messages: at least one, in the order of the conversation.
    :ivar parameters: by OpenAI's names, without null; see chat_parameters.
    :ivar extras: {name of a provider: fields that only its requests have}.
    """

    messages: list[Message]
    parameters: dict[str, Any] = field(default_factory=dict)
    extras: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "ChatRequest":
        """Return the request that `as_dict` described."""
        return cls(**data)

    def as_dict(self) -> dict[str, Any]:
        """Return the request as a JSON value."""
        return {
            "messages": self.messages, "parameters": self.parameters, "extras": self.extras,
        }

    def with_messages(self, messages: list[Message]) -> "ChatRequest":
        return replace(self, messages=messages)

    def without(self, *names: str) -> "ChatRequest":
        """Return the request without these parameters."""
        parameters = {
            name: value for name, value in self.parameters.items() if name not in names
        }
        return replace(self, parameters=parameters)

    def without_extra_content(self, provider: str) -> "ChatRequest":
        """Return the request without what `provider` wants back with its calls."""
        return replace(
            self, messages=chat_messages.without_extra_content(self.messages, provider)
        )

    def renamed(self, name: str, new_name: str) -> "ChatRequest":
        """Return the request with the parameter `name` under another name."""
        parameters = dict(self.without(name).parameters)
        parameters[new_name] = self.parameters[name]
        return replace(self, parameters=parameters)

    @property
    def max_tokens(self) -> Optional[int]:
        """The limit of the answer in tokens, whatever its name, or None."""
        for name in chat_parameters.TOKEN_LIMITS:
            if name in self.parameters:
                return int(self.parameters[name])
        return None

    @property
    def tools(self) -> list[FunctionDefinition]:
        """The functions that the model may call."""
        return [tool["function"] for tool in self.parameters.get("tools") or []]

    @property
    def forced_tool(self) -> Optional[str]:
        """The name of the one function that the model has to call, or None."""
        choice = self.parameters.get("tool_choice")
        return choice["function"]["name"] if isinstance(choice, dict) else None

    @property
    def stops(self) -> list[str]:
        """The texts at which the answer ends."""
        stop = self.parameters.get("stop")
        return [stop] if isinstance(stop, str) else list(stop or [])

    @property
    def expects_json(self) -> bool:
        return self.parameters.get("response_format", {}).get("type") in (
            "json_object", "json_schema",
        )

    @property
    def response_schema(self) -> Optional[ResponseSchema]:
        """The schema of the answer, or None if any text or JSON is accepted."""
        description = self.parameters.get("response_format", {}).get("json_schema")
        if description is None:
            return None
        return ResponseSchema(
            description["name"],
            description["schema"],
            description.get("description"),
            description.get("strict"),
        )

    @property
    def has_tool_messages(self) -> bool:
        """Whether the conversation contains calls of tools."""
        return any(message.get("tool_calls") for message in self.messages)


def parse(
    request: dict[str, Any],
    providers: tuple[str, ...] = (),
    path: str = "original_request",
    parameters_path: Optional[str] = None,
) -> ChatRequest:
    """Return the ChatRequest that a caller wrote.

    :param request: `messages`, or `prompt` and maybe `system`; and parameters, in `parameters` or
        beside it.
    :param providers: names under which `parameters` may have fields for one provider only.
    :param parameters_path: of `parameters`; default: below `path`.
    :raises InvalidInput: it is not valid; names the field.
    """
    request = {
        name: value for name, value in request.items() if str(name).lower() not in _TRACE_FIELDS
    }
    messages = chat_messages.parse(request, path)
    for name in request:
        if name not in _OWN_FIELDS and chat_parameters.snake_case(name) not in (
            chat_parameters.ALLOWED
        ):
            raise InvalidInput(
                "%s.%s" % (path, name), request[name], "is not a known field",
                "Known fields: %s, and the parameters of a chat request" % ", ".join(_OWN_FIELDS),
            )
    beside = {name: value for name, value in request.items() if name not in _OWN_FIELDS}
    parameters, extras = chat_parameters.parse(
        beside, request.get("parameters"), providers, path,
        parameters_path or path + ".parameters",
    )
    return ChatRequest(messages, parameters, extras)
