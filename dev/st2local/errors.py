"""The ways in which a request is refused, each with the HTTP status StackStorm gives it."""


class InvalidInput(Exception):
    """The caller asked for something that StackStorm would not do. Nothing has run."""

    status = 400


class NotFound(InvalidInput):
    status = 404


class Unauthorized(InvalidInput):
    status = 401


class InvalidActionReferencedException(InvalidInput):
    """A task names an action that does not exist. Named as in a StackStorm workflow's errors."""


class ParamException(InvalidInput):
    """A parameter cannot be rendered. Named as in a StackStorm workflow's errors."""


class ValidationError(InvalidInput):
    """A parameter is not what its schema says. Named as in a StackStorm workflow's errors."""


class ConfigError(InvalidInput):
    """The pack's config is not what config.schema.yaml says."""
