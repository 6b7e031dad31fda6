"""Documents that are generated from manifests and specs. No number in them is written by hand.

``card`` and ``croissant`` describe one model or dataset, ``parameters`` all models; those in
``of_storage/`` describe the storage. A document is a module with ``DOCUMENT`` and, where it is
Markdown, a template beside it.
"""
