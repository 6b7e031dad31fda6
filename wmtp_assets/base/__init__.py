"""What everything else may use: errors, settings, progress, JSON, child."""
