"""Rules about datasets, one module for each thing they are about."""
