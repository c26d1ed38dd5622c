"""Constants of wrapper.py and python_runner.py; the wrapper itself cannot import st2local."""
MARK = "%%%%%~=~=~=************=~=~=~%%%%"
INVALID_STATUS_EXIT_CODE = 220
