"""What the paper claims, and the measurement of it."""
