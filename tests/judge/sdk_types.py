"""The types of the providers' SDKs, as a judge in a process of its own.

Reads one JSON object a line: {"judge": api, "body": ..., "model": ...} is answered with
{"problem": null or a text}, and {"answer": api, "seed": ...} with {"body": an answer that the
types can hold}. Needs openai, anthropic, google-genai and botocore.
"""
import base64
import collections.abc
import datetime
import enum
import inspect
import io
import json
import os
import random
import re
import sys
import types as python_types
import typing

import pydantic
import typing_extensions

_NAMES = ("Iterable", "SequenceNotStr", "Sequence", "List", "list")
# What google-genai itself adds to an answer.
_NOT_SENT = ("parsed", "sdk_http_response", "automatic_function_calling_history")
# Of the many kinds of items of an answer, those that requests without server tools lead to.
_NONE = type(None)
_USUAL = (
    "ResponseOutputMessage", "ResponseFunctionToolCall", "ResponseReasoningItem", "TextBlock",
    "ToolUseBlock",
)
_USUAL_VALUES = ("stop", "tool_calls", "completed", "end_turn", "tool_use", "STOP")
_USUAL_FIELDS = ("candidates", "content", "parts", "finish_reason", "text", "name")
_WORDS = ["", " ", "hello", "{}", '{"a": 1}', "42", "[1]", "null"]


def strict(annotation, seen=None):
    """The type with lists instead of iterables, and without keys that no type names."""
    seen = {} if seen is None else seen
    if typing_extensions.is_typeddict(annotation):
        return _strict_typed_dict(annotation, seen)
    origin, arguments = typing_extensions.get_origin(annotation), typing.get_args(annotation)
    if origin is None:
        return annotation
    if origin is typing_extensions.Annotated:
        return strict(arguments[0], seen)
    if origin is typing.Literal:
        return annotation
    if origin in (typing.Union, python_types.UnionType):
        # The SDKs accept open files, too.
        options = [argument for argument in arguments if not _is_file(argument)]
        return typing.Union[tuple(strict(option, seen) for option in options)]
    if origin is collections.abc.Iterable or origin.__name__ in _NAMES:
        return list[strict(arguments[0], seen)]
    if origin is dict:
        return dict[strict(arguments[0], seen), strict(arguments[1], seen)]
    raise TypeError("a type that the judge does not know: %r" % annotation)


def _is_file(annotation):
    origin = typing_extensions.get_origin(annotation)
    return origin in (typing.IO, os.PathLike) or annotation in (io.IOBase, os.PathLike)


def _strict_typed_dict(annotation, seen):
    if annotation in seen:
        # A type that contains itself.
        return seen[annotation] or typing.Any
    seen[annotation] = None
    fields = {}
    for name, hint in typing_extensions.get_type_hints(annotation, include_extras=True).items():
        origin = typing_extensions.get_origin(hint)
        while origin in (typing_extensions.Required, typing_extensions.NotRequired):
            hint = typing.get_args(hint)[0]
            origin = typing_extensions.get_origin(hint)
        marker = typing_extensions.Required
        if name not in annotation.__required_keys__:
            marker = typing_extensions.NotRequired
        fields[name] = marker[strict(hint, seen)]
    result = typing_extensions.TypedDict(annotation.__name__, fields)
    # What a JSON schema holds is anybody's.
    extra = getattr(annotation, "__pydantic_config__", {}).get("extra", "forbid")
    result.__pydantic_config__ = {"extra": extra, "strict": True}
    seen[annotation] = result
    return result


class TypedDictJudge:
    def __init__(self, annotation):
        self._adapter = pydantic.TypeAdapter(strict(annotation))

    def problem(self, body, model):
        return difference(self._adapter.validate_python(body), body)


class GoogleJudge:
    """What google-genai sends for the values in a body has to be that body."""

    def __init__(self):
        from google import genai
        from google.genai import models, types

        self._client = genai.Client(api_key="k")._api_client
        self._convert, self._types = models._GenerateContentParameters_to_mldev, types

    def problem(self, body, model):
        known_fields = {"contents", "systemInstruction", "generationConfig", "tools", "toolConfig"}
        if not set(body) <= known_fields:
            return "fields that the judge does not know: %s" % sorted(set(body) - known_fields)
        config = dict(body.get("generationConfig", {}))
        for name in ("systemInstruction", "tools", "toolConfig"):
            if name in body:
                config[name] = body[name]
        parameters = self._types._GenerateContentParameters(
            model=model,
            contents=[self._types.Content.model_validate(item) for item in body["contents"]],
            config=self._types.GenerateContentConfig.model_validate(config),
        )
        sent = self._convert(self._client, parameters)
        sent.pop("_url", None)
        sent = as_json(sent)
        if not sent.get("generationConfig"):
            sent.pop("generationConfig", None)
        return difference(as_json_bytes(sent), as_json_bytes(body))


def as_json(value):
    """The JSON value of what google-genai sends."""
    if isinstance(value, pydantic.BaseModel):
        return as_json(value.model_dump(by_alias=True, exclude_unset=True))
    if isinstance(value, dict):
        return {name: as_json(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return value


def as_json_bytes(value):
    """The value with both alphabets of base64 made one, where bytes are expected."""
    if isinstance(value, dict):
        return {
            name: item.replace("-", "+").replace("_", "/")
            if name in ("data", "thoughtSignature") and isinstance(item, str)
            else as_json_bytes(item)
            for name, item in value.items()
        }
    return [as_json_bytes(item) for item in value] if isinstance(value, list) else value


class BotocoreJudge:
    def __init__(self):
        import botocore.serialize
        import botocore.session
        import botocore.validate

        service = botocore.session.get_session().get_service_model("bedrock-runtime")
        self.operation = service.operation_model("Converse")
        self._validator = botocore.validate.ParamValidator()
        self._serializer = botocore.serialize.create_serializer("rest-json", False)

    def problem(self, body, model):
        parameters = with_bytes(dict(body, modelId=model))
        report = self._validator.validate(parameters, self.operation.input_shape)
        if report.has_errors():
            return report.generate_report()
        problem = pattern_problem(parameters, self.operation.input_shape)
        if problem is not None:
            return problem
        sent = self._serializer.serialize_to_request(parameters, self.operation)
        return difference(json.loads(sent["body"]), body)


def with_bytes(value):
    """The value with what botocore encodes in base64 as bytes."""
    if isinstance(value, dict):
        return {
            name: base64.b64decode(item, validate=True)
            if name == "bytes" and isinstance(item, str) else with_bytes(item)
            for name, item in value.items()
        }
    return [with_bytes(item) for item in value] if isinstance(value, list) else value


def pattern_problem(value, shape, path=""):
    """What botocore leaves to the server: patterns, enums and lengths."""
    if getattr(shape, "is_document_type", False):
        return None
    if shape.type_name == "structure":
        pairs = [(value[name], shape.members[name], path + "." + name) for name in value]
    elif shape.type_name == "list":
        pairs = [
            (item, shape.member, "%s[%d]" % (path, index)) for index, item in enumerate(value)
        ]
    elif shape.type_name == "map":
        pairs = [(name, shape.key, path) for name in value]
        pairs += [(item, shape.value, "%s.%s" % (path, name)) for name, item in value.items()]
    else:
        return scalar_problem(value, shape, path)
    problems = (pattern_problem(*pair) for pair in pairs)
    return next((problem for problem in problems if problem is not None), None)


def scalar_problem(value, shape, path):
    pattern, allowed = shape.metadata.get("pattern"), shape.metadata.get("enum")
    if allowed and value not in allowed:
        return "%s: %r is none of %s" % (path, value, allowed)
    if pattern and isinstance(value, str) and not re.fullmatch(pattern, value):
        return "%s: %r does not match %s" % (path, value, pattern)
    if isinstance(value, bool):
        return None
    size = len(value) if isinstance(value, (str, bytes)) else value
    minimum, maximum = shape.metadata.get("min", size), shape.metadata.get("max", size)
    if not minimum <= size <= maximum:
        return "%s: %r is not within %s and %s" % (path, value, minimum, maximum)
    return None


def difference(left, right, path=""):
    """Where two JSON values differ, key by key at every depth, or None."""
    if isinstance(left, dict) and isinstance(right, dict):
        if set(left) != set(right):
            return "%s: only one side has %s" % (path, sorted(set(left) ^ set(right)))
        pairs = [(left[name], right[name], "%s.%s" % (path, name)) for name in left]
    elif isinstance(left, list) and isinstance(right, list):
        if len(left) != len(right):
            return "%s: %d and %d items" % (path, len(left), len(right))
        pairs = [(a, b, "%s[%d]" % (path, n)) for n, (a, b) in enumerate(zip(left, right))]
    else:
        same_kind = isinstance(left, bool) == isinstance(right, bool)
        return None if left == right and same_kind else "%s: %r is not %r" % (path, left, right)
    return next(filter(None, (difference(*pair) for pair in pairs)), None)


class Answers:
    """Random answers that a type can hold, good and bad ones."""

    def __init__(self, seed):
        self._random = random.Random(seed)

    def of(self, annotation, depth=0, name=""):
        origin, arguments = typing_extensions.get_origin(annotation), typing.get_args(annotation)
        if origin is typing_extensions.Annotated:
            return self.of(arguments[0], depth, name)
        if origin in (typing.Union, python_types.UnionType):
            options = [argument for argument in arguments if argument is not _NONE]
            none_rate = 0.05 if name in _USUAL_FIELDS else 0.3 + depth / 10
            if len(options) < len(arguments) and self._random.random() < none_rate:
                return None
            usual = [option for option in options if getattr(option, "__name__", "") in _USUAL]
            if usual and self._random.random() < 0.5:
                options = usual
            return self.of(self._random.choice(options), depth, name)
        if origin is typing.Literal:
            return self._value(arguments)
        if origin is list:
            count = self._random.choice([0, 1, 1, 2, 3]) if depth < 8 else 0
            return [self.of(arguments[0], depth + 1, name) for _ in range(count)]
        if origin is dict:
            return {
                name: self.of(arguments[1], depth + 1)
                for name in self._random.choice([[], ["a"], ["a", "b"]])
            }
        return self._plain(annotation, depth, name)

    def _has(self, key, field):
        if key in _NOT_SENT:
            return False
        rate = 0.9 if key in _USUAL_FIELDS else 0.7
        return field.is_required() or self._random.random() < rate

    def _value(self, values):
        usual = [value for value in values if value in _USUAL_VALUES]
        if usual and self._random.random() < 0.4:
            values = usual
        return self._random.choice(values)

    def _plain(self, annotation, depth, name):
        if inspect.isclass(annotation) and issubclass(annotation, pydantic.BaseModel):
            return {
                field.alias or key: self.of(field.annotation, depth + 1, key)
                for key, field in annotation.model_fields.items()
                if self._has(key, field)
            }
        if inspect.isclass(annotation) and issubclass(annotation, enum.Enum):
            return self._value([member.value for member in annotation] or ["NEW"])
        if annotation is bool:
            return self._random.random() < 0.5
        if annotation in (int, float):
            return self._random.choice([0, 1, 17, 5000])
        if annotation is bytes:
            return "c2ln"
        if annotation is datetime.datetime:
            return "2026-11-29T13:00:00Z"
        if annotation is str and name == "arguments":
            return self._random.choice(["", "{}", '{"a": 1}', '{"a":', "[]", '"x"'])
        if annotation is str:
            return self._random.choice(_WORDS)
        return self._random.choice([None, 1, "x", {"a": 1}])

    def of_shape(self, shape, depth=0):
        """A JSON value that a shape of botocore can hold."""
        if getattr(shape, "is_document_type", False):
            return self._random.choice([{}, {"a": 1}, {"b": [None]}])
        if shape.type_name == "structure":
            names = list(shape.members)
            if getattr(shape, "is_tagged_union", False):
                names = [self._random.choice(names)]
            else:
                names = [
                    name for name in names
                    if name in shape.required_members or self._random.random() < 0.6
                ]
            return {name: self.of_shape(shape.members[name], depth + 1) for name in names}
        if shape.type_name == "list":
            count = self._random.choice([0, 1, 1, 2, 3]) if depth < 9 else 0
            return [self.of_shape(shape.member, depth + 1) for _ in range(count)]
        if shape.type_name == "map":
            return {}
        return self._scalar_of_shape(shape)

    def _scalar_of_shape(self, shape):
        if shape.metadata.get("enum"):
            return self._value(shape.metadata["enum"])
        if shape.type_name in ("integer", "long", "float", "double"):
            return self._random.choice([0, 1, 17, 5000])
        if shape.type_name == "boolean":
            return self._random.random() < 0.5
        return "c2ln" if shape.type_name == "blob" else self._random.choice(_WORDS)


def main():
    import anthropic.types
    import openai.types.chat
    import openai.types.responses
    import openai.types.webhooks
    from anthropic.types import message_create_params as anthropic_params
    from google.genai import types as google_types
    from openai.types.chat import completion_create_params as chat_params
    from openai.types.responses import response_create_params as responses_params

    bedrock = BotocoreJudge()
    judges = {
        "openai": TypedDictJudge(chat_params.CompletionCreateParamsNonStreaming),
        "openai_responses": TypedDictJudge(responses_params.ResponseCreateParamsNonStreaming),
        "anthropic": TypedDictJudge(anthropic_params.MessageCreateParamsNonStreaming),
        "gemini": GoogleJudge(),
        "bedrock": bedrock,
    }
    answers = {
        "openai": openai.types.chat.ChatCompletion,
        "openai_responses": openai.types.responses.Response,
        "openai_webhooks": openai.types.webhooks.UnwrapWebhookEvent,
        "anthropic": anthropic.types.Message,
        "gemini": google_types.GenerateContentResponse,
    }
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "answer" in request:
            generator = Answers(request["seed"])
            if request["answer"] == "bedrock":
                body = generator.of_shape(bedrock.operation.output_shape)
            else:
                annotation = answers[request["answer"]]
                body = generator.of(annotation)
                # The type has to agree.
                pydantic.TypeAdapter(annotation).validate_python(body)
            print(json.dumps({"body": body}), flush=True)
            continue
        try:
            problem = judges[request["judge"]].problem(request["body"], request["model"])
        except Exception as error:
            problem = "%s: %s" % (type(error).__name__, str(error)[:2000])
        print(json.dumps({"problem": problem}), flush=True)


if __name__ == "__main__":
    main()
