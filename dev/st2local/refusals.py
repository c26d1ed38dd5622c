"""The ways in which a request is refused, each with the HTTP status StackStorm gives it."""


class Refused(Exception):
    """The caller asked for something that StackStorm would not do. Nothing has run."""

    status = 400


class NotFound(Refused):
    status = 404


class Unauthorized(Refused):
    status = 401


class InvalidActionReferencedException(Refused):
    """A task names an action that does not exist. Named as in a StackStorm workflow's errors."""


class ParamException(Refused):
    """A parameter cannot be rendered. Named as in a StackStorm workflow's errors."""


class ValidationError(Refused):
    """A parameter is not what its schema says. Named as in a StackStorm workflow's errors."""


class ConfigError(Refused):
    """The pack's config is not what config.schema.yaml says."""
