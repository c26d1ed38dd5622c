import sys

from st2local.cli import main

sys.exit(main())
