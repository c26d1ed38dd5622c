"""What wrapper.py and python_runner.py agree on; the wrapper imports nothing of st2local."""
MARK = "%%%%%~=~=~=************=~=~=~%%%%"
INVALID_STATUS_EXIT_CODE = 220
