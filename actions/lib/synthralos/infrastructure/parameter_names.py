"""What a parameter of an action holds, as far as its name tells."""

import re

# Parameters that say where an action works: those of StackStorm's runners, and those that packs
# use. A part of a name counts, such as target_host; whole words only, so that ghost does not.
HOST_WORDS = frozenset((
    "host", "hosts", "hostname", "hostnames", "fqdn", "node", "nodes", "server", "servers",
    "instance", "address", "addr", "ip", "ips", "url", "uri", "endpoint", "domain", "bastion",
    "target", "targets", "proxy", "router", "switch", "inventory",
))
# Parameters that hold a command line, code or credentials.
COMMAND_WORDS = frozenset((
    "cmd", "cmds", "command", "commands", "script", "scripts", "args", "arguments", "argv", "env",
    "environment", "exec", "eval", "code", "shell", "sudo", "cwd", "dir", "directory", "query",
    "sql", "statement", "expression", "template", "playbook", "password", "passphrase", "token",
    "key", "secret", "username", "user", "module",
))
_WORDS = re.compile(r"[A-Za-z][a-z]*|[0-9]+")


def holds_host(name: str) -> bool:
    """Return whether a parameter of this name says which host or address an action works on."""
    return not HOST_WORDS.isdisjoint(_words_of(name))


def holds_command(name: str) -> bool:
    """Return whether a parameter of this name holds a command line, code or credentials."""
    return not COMMAND_WORDS.isdisjoint(_words_of(name))


def _words_of(name: str) -> set[str]:
    return {word.lower() for word in _WORDS.findall(name)}
