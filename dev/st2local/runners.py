"""The runners that st2local supports, and the parameters of each."""

_TIMEOUT = {"type": "integer", "description": "Seconds after which the action is killed."}

RUNNERS = {
    "python-script": {
        "debug": {"type": "boolean", "required": False, "default": False},
        "content_version": {"type": "string", "required": False},
        "env": {"type": "object"},
        "timeout": dict(_TIMEOUT, default=600),
        "log_level": {
            "type": "string", "default": "DEBUG",
            "enum": ["AUDIT", "CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG"],
        },
    },
    "orquesta": {
        "notify": {
            "type": "array", "uniqueItems": True, "default": [],
            "items": {"type": "string", "minLength": 1, "pattern": "^\\w+$"},
        },
    },
    "noop": {},
    "local-shell-cmd": {
        "cmd": {"type": "string"},
        "cwd": {"type": "string"},
        "env": {"type": "object"},
        "kwarg_op": {"type": "string", "default": "--"},
        "sudo": {"type": "boolean", "default": False},
        "sudo_password": {"type": "string", "default": None, "secret": True, "required": False},
        "timeout": dict(_TIMEOUT, default=60),
    },
    "inquirer": {
        "schema": {
            "type": "object", "required": True,
            "default": {
                "title": "response_data", "type": "object",
                "properties": {"continue": {
                    "type": "boolean", "required": True,
                    "description": "Would you like to continue the workflow?",
                }},
            },
        },
        "route": {"type": "string", "default": "", "required": False},
        "roles": {"type": "array", "default": [], "required": False},
        "users": {"type": "array", "default": [], "required": False},
        "ttl": {"type": "integer", "default": 1440, "required": True},
    },
}

CORE_ACTIONS = {
    "noop": {"runner_type": "noop", "description": "Action that does nothing"},
    "local": {
        "runner_type": "local-shell-cmd",
        "description": "Action that executes an arbitrary Linux command on the localhost.",
        "parameters": {
            "cmd": {"type": "string", "required": True}, "sudo": {"immutable": True},
        },
    },
    "echo": {
        "runner_type": "local-shell-cmd",
        "description": "Action that executes the Linux echo command on the localhost.",
        "parameters": {
            "message": {"type": "string", "required": True},
            "cmd": {
                "type": "string", "required": True, "default": 'echo "{{message}}"',
                "immutable": True,
            },
            "kwarg_op": {"immutable": True},
            "sudo": {"default": False, "immutable": True},
            "sudo_password": {"immutable": True},
        },
    },
    "ask": {
        "runner_type": "inquirer",
        "description": "Action for initiating an Inquiry (usually in a workflow)",
    },
}
