"""The documents about the storage as a whole: one module each, found by its name.

The name is what ``document:`` says in a ``defs.yaml``; the module exports its
:class:`~wmtp_assets.documents.document.DocumentType` as ``DOCUMENT``.
"""
