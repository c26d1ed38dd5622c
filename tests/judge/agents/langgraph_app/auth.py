"""Who may call the server: whoever has the key."""
import os

from langgraph_sdk import Auth

auth = Auth()


@auth.authenticate
async def authenticate(headers):
    key = headers.get(b"x-api-key") or headers.get("x-api-key")
    if key not in (os.environ["JUDGE_KEY"], os.environ["JUDGE_KEY"].encode()):
        raise Auth.exceptions.HTTPException(status_code=401, detail="Invalid API key")
    return "judge"
