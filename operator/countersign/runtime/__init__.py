"""What every service process needs and none decides by: signals, health and metrics, logs."""
