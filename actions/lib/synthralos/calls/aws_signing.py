"""AWS's signature of requests, version 4, by botocore's signer.

botocore is no requirement of the pack: it is imported when a request is signed, and not before.
"""

import functools
import json
from typing import Any, NamedTuple, Optional

from synthralos.config.connection import AwsSigning
from synthralos.core.errors import InvalidInput
from synthralos.core.header_values import find_header_fault, trim_secret

# Of Bedrock, for models and for their list alike.
SERVICE = "bedrock"
INSTALL_HINT = (
    "Install it into the virtualenv of the pack, `/opt/stackstorm/virtualenvs/synthralos/bin/pip "
    "install botocore`, or use a Bedrock API key (auth: api_key)"
)
CREDENTIALS_HINT = (
    "Give the host of st2actionrunner AWS credentials (a role, variables or ~/.aws), or set "
    "iam_credentials_from"
)
SHAPE_HINT = (
    'Store {"AccessKeyId": "...", "SecretAccessKey": "...", "SessionToken": "..."}, as `aws '
    "configure export-credentials` prints it; SessionToken only for temporary credentials"
)
# Beside the host and AWS's own headers. A proxy may change others on the way.
_SIGNED = "content-type"
_OF_AWS = "x-amz"


class AwsCredentials(NamedTuple):
    """Credentials of AWS, with the names that botocore has for their parts.

    :ivar token: of temporary credentials, or None.
    """

    access_key: str
    secret_key: str
    token: Optional[str] = None


class Signer:
    """Signs requests: an `auth` of the library requests."""

    def __init__(self, credentials: AwsCredentials, signing: AwsSigning) -> None:
        self._credentials, self._signing = credentials, signing

    def __call__(self, request: Any) -> Any:
        """Add the signature to a prepared request, and return it.

        :raises InvalidInput: botocore is not installed.
        """
        botocore = require_botocore(self._signing)
        headers = {
            name: value for name, value in request.headers.items()
            if name.lower() == _SIGNED or name.lower().startswith(_OF_AWS)
        }
        signed = botocore.awsrequest.AWSRequest(
            request.method, request.url, headers, request.body or b""
        )
        signer = botocore.auth.SigV4Auth(self._credentials, SERVICE, self._signing.region)
        signer.add_auth(signed)
        request.headers.update(signed.headers.items())
        return request


def require_botocore(signing: AwsSigning) -> Any:
    """Return the module botocore.

    :raises InvalidInput: it is not installed.
    """
    try:
        import botocore.auth
        import botocore.awsrequest
        import botocore.session
    except ImportError:
        reason = "needs botocore, which is not installed"
        raise InvalidInput(signing.path, "iam", reason, INSTALL_HINT) from None
    return botocore


def host_credentials(signing: AwsSigning) -> AwsCredentials:
    """Return the credentials of this host, which botocore looks for where every AWS tool does.

    Temporary ones are renewed by botocore before they expire.

    :raises InvalidInput: there are none, or they cannot be read.
    """
    botocore = require_botocore(signing)
    try:
        credentials = _session().get_credentials()
        frozen = credentials.get_frozen_credentials() if credentials is not None else None
    except botocore.exceptions.BotoCoreError as error:
        reason = "AWS credentials cannot be read: %s" % error
        raise InvalidInput(signing.path, "iam", reason, CREDENTIALS_HINT) from error
    if frozen is None:
        raise InvalidInput(signing.path, "iam", "there are no AWS credentials", CREDENTIALS_HINT)
    return AwsCredentials(frozen.access_key, frozen.secret_key, frozen.token)


@functools.cache
def _session() -> Any:
    # No requirement of the pack: who signs for AWS installs it.
    import botocore.session  # pylint: disable=import-error

    return botocore.session.get_session()


def parse_credentials(text: str, key: str) -> AwsCredentials:
    """Return the credentials in a JSON object with AWS's names for them.

    :param key: the datastore key that holds `text`, for messages. `text` is never quoted.
    :raises InvalidInput: it is not such an object.
    """
    try:
        entries = json.loads(text)
    except ValueError:
        entries = None
    if not isinstance(entries, dict):
        raise InvalidInput("config iam_credentials_from", key, "is not a JSON object", SHAPE_HINT)
    access_key, secret_key = (
        _part(entries, name, key) for name in ("AccessKeyId", "SecretAccessKey")
    )
    token = None
    if entries.get("SessionToken") is not None:
        token = _part(entries, "SessionToken", key)
    return AwsCredentials(access_key, secret_key, token)


def _part(entries: dict[str, Any], name: str, key: str) -> str:
    value = entries.get(name)
    part = trim_secret(value) if isinstance(value, str) else ""
    if not part or find_header_fault(part) is not None:
        reason = "has no valid %s" % name
        raise InvalidInput("config iam_credentials_from", key, reason, SHAPE_HINT)
    return part
