"""Datasets: records, one converter per dataset, token counting, small splits, statistics."""
