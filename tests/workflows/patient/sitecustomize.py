"""What the processes of actions import first: their calls of the API get the tests' patience.

The limits of the pack are for runs at a deadline. Where the machine is busy, the API is st2local's,
in the tests' process, which may get no turn for longer than that; a run then records less.
"""
from synthralos.storage import stackstorm_api

stackstorm_api.TIMEOUT_SECONDS = stackstorm_api.READ_EXECUTION_SECONDS = 120.0
