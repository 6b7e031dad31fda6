"""What the processes of steps inherit: imported by the process that they are forked from.

Loading the definitions takes a second or two of CPU time, each step would need it, and nothing in
them is a thread, an open file or a connection.
"""

from __future__ import annotations

from wmtp_assets.definitions import defs

REPOSITORY = defs().get_repository_def()
