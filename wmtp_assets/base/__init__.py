"""What everything else may use: errors, settings, clock, progress, JSON, child."""
