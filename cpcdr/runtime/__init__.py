"""What runs and records a command, and knows nothing of streets."""
