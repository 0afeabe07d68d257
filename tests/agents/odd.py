"""How an agent is told of `odd_mcp_server.py`."""

import sys
from pathlib import Path

SCRIPT = str(Path(__file__).with_name("odd_mcp_server.py"))
ODD = {"command": sys.executable, "args": [SCRIPT]}
