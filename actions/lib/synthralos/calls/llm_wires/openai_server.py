"""What OpenAI's two wires share: the list of models, and how requests are authorized."""

from typing import Any, Optional

from synthralos.calls.llm_wires import listings
from synthralos.calls.llm_wires.wire import Authorize
from synthralos.config.connection import Connection


class OpenAIServer:
    """The parts of a `wire.Wire` that are the same for chat completions and Responses."""

    headers: dict[str, str] = {}

    @staticmethod
    def listing(connection: Connection) -> tuple[Connection, str]:
        return connection, "/models"

    @staticmethod
    def authorize(base_url: str) -> Optional[Authorize]:
        return None

    @staticmethod
    def model_names(listing: Any) -> Optional[list[str]]:
        return listings.names(listing, "data", "id")
