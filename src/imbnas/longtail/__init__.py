"""Long-tailed learning: losses, schedules, heads, metrics and calibration."""
