"""What the processes of steps inherit: imported by the process that they are forked from.

Loading the definitions takes a second or two of CPU time, each step would need it, and nothing in
them is a thread, an open file or a connection.
"""

from __future__ import annotations

from wmtp_assets import definitions

definitions.PRELOADED.append(definitions.defs())
definitions.PRELOADED[0].get_repository_def().get_all_jobs()
