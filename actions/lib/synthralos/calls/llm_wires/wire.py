"""What a wire is: the translation between chat requests and the API of a provider."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable, Optional, Protocol, TypedDict

from synthralos.calls.llm_wires.chat_request import ChatRequest
from synthralos.calls.llm_wires.completion import Completion
from synthralos.calls.llm_wires.model_traits import ModelTraits
from synthralos.config.connection import Connection

Authorize = Callable[[str], dict[str, str]]


class Adaptation(TypedDict, total=False):
    """A field of a request that a model did not get as it was written.

    `sent_as` is the name or the value that it got instead, where there is one.
    """

    field: str
    reason: str
    sent_as: str


class CannotCarry(Exception):
    """The request asks for something that this model cannot do, or its wire cannot say.

    :ivar field: of the request.
    :ivar reason: for people.
    :ivar cause: unsupported_content or unsupported_parameter.
    """

    def __init__(self, field: str, reason: str, cause: str = "unsupported_content") -> None:
        self.field, self.reason, self.cause = field, reason, cause
        super().__init__("%s: %s" % (field, reason))


@dataclass
class WireRequest:
    """A request as an API takes it.

    :ivar body: a JSON value.
    :ivar max_output_tokens: the limit of the answer in the body, or None if it has none.
    :ivar adapted: the fields of the chat request that it does not contain as they were written.
    :ivar max_calls: how many calls of tools a good answer may have, where the API cannot be told;
        None for any number.
    """

    body: dict[str, Any]
    max_output_tokens: Optional[int] = None
    adapted: list[Adaptation] = field(default_factory=list)
    max_calls: Optional[int] = None

    def leave_out(self, name: str, reason: str) -> None:
        """Record that a field of the chat request is not in the body."""
        self.adapted.append({"field": name, "reason": reason})

    def send_as(self, name: str, value: str, reason: str) -> None:
        """Record that a field is in the body under another name, or with another value."""
        self.adapted.append({"field": name, "reason": reason, "sent_as": value})


class Wire(Protocol):
    """A wire format.

    :ivar headers: of each request.
    """

    headers: dict[str, str]

    def listing(self, connection: Connection) -> tuple[Connection, str]:
        """Return (connection, path) where GET lists the models that `connection` serves."""

    def path(self, model: str) -> str:
        """Return where chats with the model are posted; below the base URL."""

    def authorize(self, base_url: str) -> Optional[Authorize]:
        """Return a function (secret) -> headers, or None for a bearer token."""

    def build(self, request: ChatRequest, model: str, traits: ModelTraits) -> WireRequest:
        """Return the request as the API takes it.

        :raises CannotCarry: what the request asks for cannot be said, or not be done.
        """

    def read(self, body: Mapping[str, Any]) -> Optional[Completion]:
        """Return the completion in the body of a response; None if it has not the API's form."""

    def model_names(self, listing: Any) -> Optional[list[str]]:
        """Return the names of the models in a response to `listing`; None if it has another form.
        """
