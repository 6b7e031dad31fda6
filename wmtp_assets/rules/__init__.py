"""Rules: pure functions that read an artifact from disk and return findings; never repair."""
