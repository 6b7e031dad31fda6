"""One module per kind of artifact: what it owns, its upstream by role, builder, words, size.

Modules are found by name, and nothing else refers to one of them: a new kind is one file.
:mod:`wmtp_assets.kinds.registry` expands specs into artifacts.
"""
