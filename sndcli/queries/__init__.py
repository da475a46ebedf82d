"""The only door to the defended model, and what it writes down."""
