"""The files for StackStorm's RBAC in docs/rbac: their form, and that what they grant exists."""
import re

import pytest
from fixtures import PACK
from pack_files import ACTIONS, REF, read

RBAC = PACK / "docs" / "rbac"
ROLES = sorted(path.name for path in (RBAC / "roles").iterdir())
ASSIGNMENTS = sorted(path.name for path in (RBAC / "assignments").iterdir())
# Of a system, which no file defines.
SYSTEM_ROLES = {"system_admin", "admin", "observer"}


def role(name):
    return read("docs/rbac/roles/" + name)


def grants(name):
    return role(name)["permission_grants"]


@pytest.mark.parametrize("name", ROLES)
def test_a_role(name):
    document = role(name)
    assert set(document) == {"name", "description", "enabled", "permission_grants"}
    assert document["name"] + ".yaml" == name and document["enabled"] is True
    for grant in grants(name):
        types = grant["permission_types"]
        assert set(grant) <= {"resource_uid", "permission_types"}
        assert types and len(types) == len(set(types))


@pytest.mark.parametrize("name", ROLES)
def test_a_role_grants_what_is_there(name):
    for grant in grants(name):
        kind, *parts = grant.get("resource_uid", "pack:" + REF).split(":")
        if kind == "pack":
            assert parts == [REF]
        elif kind == "action":
            assert parts[0] == REF and parts[1] in ACTIONS
        elif kind == "key_value_pair":
            assert parts[0] == "st2kv.system" and parts[1] in named_keys()
        else:
            assert (kind, parts) == ("webhook", ["st2"])


def named_keys():
    """The keys that the example configuration names, and the switch."""
    text = (PACK / "synthralos.yaml.example").read_text(encoding="utf-8")
    return set(re.findall(r"^[ -]*\w+_from: (\S+)$", text, re.M)) | {"synthralos.enabled"}


def test_nobody_but_the_service_user_may_write_keys_or_change_rules():
    for name in ROLES:
        permission_types = {
            permission_type
            for grant in grants(name)
            for permission_type in grant["permission_types"]
        }
        assert not {
            permission_type
            for permission_type in permission_types
            if re.search("_(set|delete|all|create|modify)$", permission_type)
        }


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_an_assignment(name):
    document = read("docs/rbac/assignments/" + name)
    assert set(document) == {"username", "description", "enabled", "roles"}
    assert document["username"] + ".yaml" == name
    assert set(document["roles"]) <= SYSTEM_ROLES | {
        role_file[: -len(".yaml")] for role_file in ROLES
    }


@pytest.mark.parametrize("name", ROLES)
def test_stackstorm_takes_the_role(name):
    rbac = pytest.importorskip("st2common.models.api.rbac", reason="StackStorm is not here")
    rbac.RoleDefinitionFileFormatAPI(**role(name)).validate()


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_stackstorm_takes_the_assignment(name):
    base = pytest.importorskip("st2common.models.api.base", reason="StackStorm is not here")
    rbac = pytest.importorskip("st2common.models.api.rbac", reason="StackStorm is not here")
    # Its own `validate` looks the roles up in the database.
    document = read("docs/rbac/assignments/" + name)
    base.BaseAPI.validate(rbac.UserRoleAssignmentFileFormatAPI(**document))
