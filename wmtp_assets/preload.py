"""What the processes of steps inherit: imported by the process that they are forked from.

Loading the definitions takes a second or two of CPU time, each step would need it, and nothing in
them is a thread, an open file or a connection. A step finds them where it asks for them, and loads
its own where a setting is another.
"""

from __future__ import annotations

from wmtp_assets import definitions

definitions.defs().get_repository_def().get_all_jobs()
