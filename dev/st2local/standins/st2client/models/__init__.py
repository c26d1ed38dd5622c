"""The objects that the client returns: attributes are the JSON document's members."""


class Resource:
    def __init__(self, **members):
        for name, value in members.items():
            setattr(self, name, value)

    def to_dict(self):
        return dict(self.__dict__)

    serialize = to_dict


class LiveAction(Resource):
    """An execution."""


class KeyValuePair(Resource):
    """A key and its value; the name is the id."""

    @property
    def id(self):
        return self.name

    @id.setter
    def id(self, value):
        """Ignore the API's own id: keys are addressed by name."""


class Action(Resource):
    """An action's metadata."""
