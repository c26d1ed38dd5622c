"""Who may call the server: whoever has the key of a tenant, and for that tenant's threads only."""
import os

from langgraph_sdk import Auth

auth = Auth()
TENANTS = {os.environ["JUDGE_KEY"]: "judge", os.environ["JUDGE_KEY"] + "-of-another": "another"}


@auth.authenticate
async def authenticate(headers):
    key = headers.get(b"x-api-key") or headers.get("x-api-key") or ""
    tenant = TENANTS.get(key.decode() if isinstance(key, bytes) else key)
    if tenant is None:
        raise Auth.exceptions.HTTPException(status_code=401, detail="Invalid API key")
    return tenant


@auth.on.threads
async def only_own_threads(ctx, value):
    owner = {"owner": ctx.user.identity}
    value.setdefault("metadata", {}).update(owner)
    return owner
