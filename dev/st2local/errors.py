"""Errors of requests, each with the HTTP status that StackStorm answers."""


class InvalidInput(Exception):
    """A request that StackStorm would reject. Nothing has run."""

    status = 400


class NotFound(InvalidInput):
    """A resource that does not exist."""

    status = 404


class Unauthorized(InvalidInput):
    """A request without a valid token."""

    status = 401


class InvalidActionReferencedException(InvalidInput):
    """A task names an action that does not exist. Named as in a StackStorm workflow's errors."""


class ParamException(InvalidInput):
    """A parameter cannot be rendered. Named as in a StackStorm workflow's errors."""


class ValidationError(InvalidInput):
    """A parameter does not match its schema. Named as in a StackStorm workflow's errors."""


class ConfigError(InvalidInput):
    """The pack's config does not match config.schema.yaml."""
