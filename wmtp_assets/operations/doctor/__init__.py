"""What ``wmtp doctor`` looks at: the machine, the hub, the storage root and Dagster.

Each function returns conditions, and raises nothing about what it finds. Nothing here repairs.
"""
