"""What a parameter of an action holds, as far as its name tells."""

import re

# Parameters that say where an action works: those of StackStorm's runners, and those that packs
# use. A part of a name counts, such as target_host; whole words only, so that ghost does not.
HOST_WORDS = frozenset((
    "host", "hosts", "hostname", "hostnames", "fqdn", "node", "nodes", "nodename", "server",
    "servers", "servername", "machine", "machines", "computer", "instance", "instances", "address",
    "addresses", "addr", "ip", "ips", "ipv", "ipaddr", "ipaddress", "url", "urls", "baseurl", "uri",
    "endpoint", "endpoints", "webhook", "domain", "dns", "bastion", "gateway", "peer", "target",
    "targets", "destination", "dest", "proxy", "router", "switch", "inventory", "vm", "vms",
    "hypervisor", "minion", "minions", "tgt", "source", "src", "remote", "upstream", "broker",
    "dsn", "nameserver", "nameservers", "cidr",
))
# Of words without a border, such as adminurl and jumphost.
_HOST_ENDINGS = ("url", "urls", "uri", "host", "hosts")
_NO_HOSTS = frozenset(("ghost", "ghosts"))
# Parameters that hold a command line, code or credentials.
COMMAND_WORDS = frozenset((
    "cmd", "cmds", "cmdline", "command", "commands", "commandline", "script", "scripts", "args",
    "kwargs", "arguments", "argv", "options", "opts", "flags", "env", "environment", "exec", "eval",
    "code", "shell", "bash", "powershell", "sudo", "cwd", "dir", "directory", "query", "queries",
    "sql", "statement", "expression", "template", "playbook", "playbooks", "password", "passwd",
    "passphrase", "credential", "credentials", "token", "key", "secret", "username", "user",
    "module", "kwarg", "interpreter", "binary", "bin", "program", "executable", "exe", "jinja",
    "yaql", "vars", "userdata", "workdir", "auth", "authorization", "bearer", "login", "pass",
    "pwd", "psk", "creds", "apikey", "accesskey", "privatekey", "secretkey", "sshkey", "keyfile",
    "keyname",
))
# "hostName", "NODE_IP", "baseURL" and "baseURLs" are two words each.
_WORDS = re.compile(r"[A-Z]+s?(?![a-z])|[A-Za-z][a-z]*|[0-9]+")


def holds_host(name: str) -> bool:
    """Return whether a parameter of this name says which host or address an action works on."""
    return any(
        word in HOST_WORDS or (word.endswith(_HOST_ENDINGS) and word not in _NO_HOSTS)
        for word in _words_of(name)
    )


def holds_command(name: str) -> bool:
    """Return whether a parameter of this name holds a command line, code or credentials."""
    return not COMMAND_WORDS.isdisjoint(_words_of(name))


def _words_of(name: str) -> set[str]:
    return {word.lower() for word in _WORDS.findall(name)}
