"""The storage tree somewhere else: sent, verified, and fetched again. No Dagster."""
